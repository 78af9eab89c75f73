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

{
  grafanaDashboards+:: {
    'airflow.json': import 'airflow.libsonnet',
    'rotameter.json': import 'rotameter.libsonnet',
  },
  prometheusAlerts+:: groups(rules, function(rule) std.objectHas(rule, 'alert')),
  prometheusRules+:: groups(rules, function(rule) std.objectHas(rule, 'record')),
}
