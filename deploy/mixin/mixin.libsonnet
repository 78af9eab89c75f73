// Rules and dashboards in the shape that monitoring mixins have: `grafanaDashboards`,
// `prometheusAlerts`, `prometheusRules`. The rules are plain YAML, because most people load them as that.
local file(text) = std.parseYaml(text);
local groups(files, keep) = {
  groups: std.filter(
    function(group) std.length(group.rules) > 0,
    [group { rules: std.filter(keep, group.rules) } for f in files for group in f.groups]
  ),
};
local rules = [
  file(importstr '../prometheus/airflow.rules.yml'),
  file(importstr '../prometheus/rotameter.rules.yml'),
];
local linked(base, rule) =
  if std.objectHas(rule, 'annotations') && std.objectHas(rule.annotations, 'runbook_url')
  then rule { annotations+: { runbook_url: base + super.runbook_url } }
  else rule;

{
  _config+:: {
    // Where your people read the repository, with a / at the end; without it, links are paths in it.
    runbookBaseUrl: '',
  },
  grafanaDashboards+:: {
    'airflow.json': import 'airflow.libsonnet',
    'rotameter.json': import 'rotameter.libsonnet',
  },
  prometheusAlerts+:: {
    local alerts = groups(rules, function(rule) std.objectHas(rule, 'alert')),
    groups: [
      group { rules: [linked($._config.runbookBaseUrl, rule) for rule in group.rules] }
      for group in alerts.groups
    ],
  },
  prometheusRules+:: groups(rules, function(rule) std.objectHas(rule, 'record')),
}
