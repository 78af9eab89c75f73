// Titles and PromQL -> rows of Grafana panels.
//
// A dashboard is a list of rows, a row a list of panels; where each stands is worked out here.
local datasource = { type: 'prometheus', uid: '${datasource}' };

{
  // One query with its legend.
  query(expr, legend=''):: { expr: expr, legend: legend },

  local panel(type, title, queries, description) = {
    type: type,
    title: title,
    description: description,
    datasource: datasource,
    targets: [
      {
        datasource: datasource,
        refId: std.char(std.codepoint('A') + i),
        expr: queries[i].expr,
        legendFormat: queries[i].legend,
        instant: type != 'timeseries',
        range: type == 'timeseries',
        [if type == 'table' then 'format']: 'table',
      }
      for i in std.range(0, std.length(queries) - 1)
    ],
  },

  graph(title, queries, unit='short', description='', width=8, stack=false, max=null):: panel('timeseries', title, queries, description) {
    width:: width,
    fieldConfig: {
      defaults: {
        unit: unit,
        min: 0,
        [if max != null then 'max']: max,
        custom: {
          drawStyle: 'line',
          lineWidth: 1,
          fillOpacity: if stack then 30 else 5,
          showPoints: 'never',
          stacking: { mode: if stack then 'normal' else 'none', group: 'A' },
        },
      },
      overrides: [],
    },
    options: {
      legend: { displayMode: 'list', placement: 'bottom', showLegend: true, calcs: [] },
      tooltip: { mode: 'multi', sort: 'desc' },
    },
  },

  // A figure that is green below `warn`, orange from there, red from `bad`.
  stat(title, query, unit='short', description='', warn=null, bad=null, width=4):: panel('stat', title, [query], description) {
    width:: width,
    fieldConfig: {
      defaults: {
        unit: unit,
        thresholds: {
          mode: 'absolute',
          steps: [{ color: 'green', value: null }]
                 + (if warn == null then [] else [{ color: 'orange', value: warn }])
                 + (if bad == null then [] else [{ color: 'red', value: bad }]),
        },
      },
      overrides: [],
    },
    options: { reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false }, colorMode: 'value', graphMode: 'area' },
  },

  table(title, query, description='', width=8):: panel('table', title, [query], description) {
    width:: width,
    fieldConfig: { defaults: {}, overrides: [] },
    options: { showHeader: true, sortBy: [{ displayName: 'Value', desc: true }] },
    transformations: [{ id: 'organize', options: { excludeByName: { Time: true, __name__: true } } }],
  },

  row(title, panels, collapsed=false):: { title: title, panels: panels, collapsed: collapsed },

  // Where each panel stands: from left to right, a new line where the width of 24 is used up.
  local place(panels, top) =
    std.foldl(
      function(state, panel)
        local wraps = state.x + panel.width > 24;
        local x = if wraps then 0 else state.x;
        local y = if wraps then state.bottom else state.y;
        local height = if panel.type == 'stat' then 4 else 8;
        {
          x: x + panel.width,
          y: y,
          bottom: std.max(if wraps then 0 else state.bottom, y + height),
          panels: state.panels + [panel { gridPos: { x: x, y: y, w: panel.width, h: height } }],
        },
      panels,
      { x: 0, y: top, bottom: top, panels: [] }
    ),

  local rows(list) =
    std.foldl(
      function(state, row)
        local placed = place(row.panels, state.y + 1);
        local head = {
          type: 'row',
          title: row.title,
          collapsed: row.collapsed,
          gridPos: { x: 0, y: state.y, w: 24, h: 1 },
          panels: if row.collapsed then placed.panels else [],
        };
        if row.collapsed then { y: state.y + 1, panels: state.panels + [head] }
        else { y: placed.bottom, panels: state.panels + [head] + placed.panels },
      list,
      { y: 0, panels: [] }
    ).panels,

  local numbered(panels) = [
    panels[i] {
      id: 100 * (i + 1),
      [if panels[i].type == 'row' then 'panels']: [
        panels[i].panels[j] { id: 100 * (i + 1) + j + 1 }
        for j in std.range(0, std.length(panels[i].panels) - 1)
      ],
    }
    for i in std.range(0, std.length(panels) - 1)
  ],

  // A variable filled by a query; all values unless some are chosen.
  variable(name, label, query):: {
    name: name,
    label: label,
    type: 'query',
    datasource: datasource,
    query: { query: query, refId: name },
    refresh: 2,
    sort: 1,
    multi: true,
    includeAll: true,
    allValue: '.*',
    current: { selected: true, text: ['All'], value: ['$__all'] },
    options: [],
  },

  dashboard(title, description, tags, variables, list):: {
    __inputs: [{
      name: 'DS_PROMETHEUS',
      label: 'Prometheus',
      description: 'The Prometheus that scrapes Rotameter',
      type: 'datasource',
      pluginId: 'prometheus',
      pluginName: 'Prometheus',
    }],
    __requires: [
      { type: 'grafana', id: 'grafana', name: 'Grafana', version: '10.0.0' },
      { type: 'datasource', id: 'prometheus', name: 'Prometheus', version: '1.0.0' },
    ] + [{ type: 'panel', id: kind, name: kind, version: '' } for kind in ['stat', 'table', 'timeseries']],
    id: null,
    title: title,
    description: description,
    tags: tags,
    editable: true,
    graphTooltip: 1,
    schemaVersion: 39,
    refresh: '30s',
    time: { from: 'now-3h', to: 'now' },
    timezone: '',
    links: [{ type: 'dashboards', title: 'Rotameter', tags: ['rotameter'], asDropdown: true, includeVars: true, keepTime: true, icon: 'external link', targetBlank: false, tooltip: '', url: '' }],
    annotations: { list: [] },
    templating: {
      list: [{
        name: 'datasource',
        label: 'Data source',
        type: 'datasource',
        query: 'prometheus',
        current: { selected: false, text: '${DS_PROMETHEUS}', value: '${DS_PROMETHEUS}' },
        options: [],
        refresh: 1,
        regex: '',
        hide: 0,
        includeAll: false,
        multi: false,
      }] + variables,
    },
    panels: numbered(rows(list)),
  },
}
