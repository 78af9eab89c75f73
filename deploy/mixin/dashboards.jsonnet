// Every dashboard of the mixin, by file name: what deploy/grafana holds, rendered.
(import 'mixin.libsonnet').grafanaDashboards
