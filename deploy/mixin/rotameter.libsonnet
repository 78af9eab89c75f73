// Rotameter's own metrics -> the dashboard about Rotameter itself.
local p = import 'panels.libsonnet';
local query = p.query;

local sel = 'job=~"$job",instance=~"$instance"';
local with(more) = sel + ',' + more;
local rate(name, by, more='') =
  'sum by (%s) (rate(%s{%s}[$__rate_interval]))' % [by, name, if more == '' then sel else with(more)];

p.dashboard(
  'Rotameter',
  'What arrives at Rotameter, what becomes of it, and what it costs.',
  ['rotameter', 'statsd'],
  [
    p.variable('job', 'Job', 'label_values(rotameter_build_info, job)'),
    p.variable('instance', 'Instance', 'label_values(rotameter_build_info{job=~"$job"}, instance)'),
  ],
  [
    p.row('At a glance', [
      p.stat('Instances', query('count(rotameter_build_info{%s})' % sel)),
      p.stat('Lines per second', query('sum(rate(statsd_exporter_lines_total{%s}[$__rate_interval]))' % sel), 'cps'),
      p.stat(
        'Counted in the kernel',
        query('sum(rate(rotameter_slot_lines_total{%s}[$__rate_interval])) / sum(rate(statsd_exporter_lines_total{%s}[$__rate_interval])) or sum(0 * rotameter_build_info{%s})' % [sel, sel, sel]),
        'percentunit',
        'Share of the lines that no process saw. Gauges and timers come whole by the rings.'
      ),
      p.stat('Lost in the last hour', query('sum(increase(rotameter_lost_datagrams_total{%s}[1h]))' % sel), 'short', 'Datagrams that found the queue of the socket full: nobody has them.', bad=1),
      p.stat('Series, fullest instance', query('max(rotameter_series{%s} / rotameter_series_max{%s})' % [sel, sel]), 'percentunit', 'Of --registry.max-series.', warn=0.8, bad=0.95),
      p.stat('CPU', query('sum(rate(process_cpu_seconds_total{%s}[$__rate_interval]))' % sel), 'short', 'Cores of all instances together; the doors run in softirq and are not in it.'),
    ]),
    p.row('Traffic', [
      p.graph('Datagrams, by what became of them', [
        query(rate('rotameter_datagrams_total', 'verdict', 'verdict=~"counted|ringed"'), '{{verdict}} at a door'),
        query(rate('rotameter_received_datagrams_total', 'transport', 'transport!~"ring_.*"'), 'read from {{transport}}'),
      ], 'pps', 'counted: added up in the kernel. ringed: came whole by a ring. udp: by the socket.', stack=true),
      p.graph('Events, by type', [query(rate('statsd_exporter_events_total', 'type'), '{{type}}')], 'cps', stack=true),
      p.graph('Lines per instance', [query(rate('statsd_exporter_lines_total', 'instance'), '{{instance}}')], 'cps'),
      p.graph('Why datagrams are not counted in the kernel', [
        query(rate('rotameter_datagrams_total', 'reason', 'verdict="ringed"'), '{{reason}}'),
      ], 'pps', 'odd_line is normal for timers, not_hot for gauges and rare counters.', stack=true),
      p.graph('Promoted identities', [
        query('sum by (instance) (rotameter_promoted_identities{%s})' % sel, '{{instance}}'),
        query('max(rotameter_slots{%s})' % sel, 'slots there are'),
      ]),
      p.graph('Doors open', [query('sum by (door) (rotameter_door_open{%s})' % sel, '{{door}}')], 'short', 'xdp: interfaces; socket_filter: sockets.'),
    ]),
    p.row('Errors', [
      p.graph('Lost datagrams', [query(rate('rotameter_lost_datagrams_total', 'instance, where'), '{{instance}} {{where}}')], 'pps'),
      p.graph('Passed on by a door', [
        query(rate('rotameter_datagrams_total', 'door, reason', 'verdict="passed",reason!="other_traffic"'), '{{door}} {{reason}}'),
      ], 'pps', 'Nothing of it is lost: the next door or the socket takes it. ring_full should be rare.'),
      p.graph('Lines and samples that cannot be read', [
        query(rate('statsd_exporter_sample_errors_total', 'reason') + ' or sum(0 * rotameter_build_info{%s})' % sel, '{{reason}}'),
      ], 'cps'),
      p.graph('Events refused', [
        query(rate('rotameter_events_refused_total', 'reason') + ' or sum(0 * rotameter_build_info{%s})' % sel, '{{reason}}'),
        query(rate('rotameter_overflow_events_total', 'type'), 'overflow, {{type}}'),
      ], 'cps'),
      p.table('Names in conflict', query('topk(20, sum by (metric_name, type) (statsd_exporter_events_conflict_total{%s}))' % sel), 'One name, two types: rename one of them in a mapping rule.'),
      p.graph('Not closed in the books', [
        query('sum by (instance) (rotameter_datagrams_total{%s}) - sum by (instance) (rotameter_received_datagrams_total{%s})' % [with('verdict="ringed"'), with('transport=~"ring_.*"')], '{{instance}}'),
      ], 'short', 'Datagrams that went into rings and have not come out: a few under load, and it does not grow.'),
    ]),
    p.row('Latency', [
      p.graph('Duration of a scrape', [query('max by (instance) (scrape_duration_seconds{%s} and on (job, instance) rotameter_build_info)' % sel, '{{instance}}')], 's'),
      p.graph('Drains per second', [query(rate('statsd_exporter_event_queue_flushed_total', 'instance'), '{{instance}}')], 'ops', 'At least ten; a standstill means that nothing comes out of the rings.'),
      p.graph('Scrapes per second', [query(rate('rotameter_scrapes_total', 'instance'), '{{instance}}')], 'ops', 'More than your Prometheus asks for: somebody else scrapes too.'),
    ]),
    p.row('Saturation', [
      p.graph('Series', [
        query('sum by (instance) (rotameter_series{%s})' % sel, '{{instance}}'),
        query('min(rotameter_series_max{%s})' % sel, 'bound'),
      ]),
      p.graph('Memory', [
        query('process_resident_memory_bytes{%s} and on (job, instance) rotameter_build_info' % sel, '{{instance}} resident'),
        query('rotameter_registry_bytes{%s}' % sel, '{{instance}} registry'),
      ], 'bytes'),
      p.graph('CPU', [query('rate(process_cpu_seconds_total{%s}[$__rate_interval]) and on (job, instance) rotameter_build_info' % sel, '{{instance}}')], 'short', 'Cores.'),
      p.graph('File descriptors', [query('process_open_fds{%s} / process_max_fds{%s} and on (job, instance) rotameter_build_info' % [sel, sel], '{{instance}}')], 'percentunit', max=1),
      p.graph('Remembered lines', [
        query('sum by (instance) (rotameter_cached_lines{%s})' % sel, '{{instance}}'),
        query(rate('rotameter_cached_lines_evicted_total', 'instance'), '{{instance}} forgotten per second'),
      ]),
      p.table('Families with most series', query('topk(15, count by (__name__) ({__name__=~".+",%s}))' % sel, ''), 'Costs a query over all series: nothing refreshes it but a reload of the page.') {
        transformations: [{ id: 'organize', options: { excludeByName: { Time: true } } }],
      },
    ]),
    p.row('Configuration', [
      p.table('Versions', query('count by (version) (rotameter_build_info{%s})' % sel), width=6),
      p.graph('Reloads', [
        query('sum by (outcome) (increase(statsd_exporter_config_reloads_total{%s}[$__rate_interval])) or sum(0 * rotameter_build_info{%s})' % [sel, sel], 'mapping {{outcome}}'),
        query('sum by (outcome) (increase(rotameter_web_settings_reloads_total{%s}[$__rate_interval]))' % sel, 'web {{outcome}}'),
      ], width=9),
      p.graph('Time since start', [query('time() - process_start_time_seconds{%s} and on (job, instance) rotameter_build_info' % sel, '{{instance}}')], 's', width=9),
    ]),
  ]
)
