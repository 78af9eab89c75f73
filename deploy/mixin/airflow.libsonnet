// Series of `--profile=airflow` -> the dashboard about Airflow: the four golden signals, each a row.
local p = import 'panels.libsonnet';
local query = p.query;

local dag = 'dag_id=~"$dag_id"';
local rate(name, by, more='') = 'sum by (%s) (rate(%s{%s}[$__rate_interval]))' % [by, name, more];
local quantile(q, name, by, more='') =
  'histogram_quantile(%g, sum by (%s) (rate(%s_bucket{%s}[$__rate_interval])))' % [q, std.join(', ', ['le'] + by), name, more];
// Both quantiles of a duration, over everything.
local spread(name, more='') = [
  query(quantile(0.5, name, [], more), 'median'),
  query(quantile(0.9, name, [], more), '90 %'),
  query(quantile(0.99, name, [], more), '99 %'),
];
// Shows 0 where a counter has never been counted, so that a healthy panel is not an empty one.
local orZero(expr) = expr + ' or vector(0)';

p.dashboard(
  'Airflow',
  'The four golden signals of Airflow, by Rotameter with --profile=airflow.',
  ['airflow', 'rotameter'],
  [p.variable('dag_id', 'DAG', 'label_values(airflow_task_finish_total, dag_id)')],
  [
    p.row('At a glance', [
      p.stat('Schedulers alive', query('sum(rate(airflow_scheduler_heartbeats_total[5m])) > bool 0'), 'bool_yes_no'),
      p.stat('Tasks finished per minute', query('60 * sum(rate(airflow_task_finish_total{%s}[$__rate_interval]))' % dag)),
      p.stat('Of them failed', query('sum(rate(airflow_task_finish_total{state="failed",%s}[$__rate_interval])) / (sum(rate(airflow_task_finish_total{%s}[$__rate_interval])) > 0)' % [dag, dag]), 'percentunit', warn=0.02, bad=0.1),
      p.stat('Import errors', query('max(airflow_dag_import_errors)'), warn=1, bad=5),
      p.stat('Tasks running', query('sum(airflow_executor_running_tasks)')),
      p.stat('Tasks queued', query('sum(airflow_executor_queued_tasks)')),
    ]),
    p.row('Latency', [
      p.graph('First task of a run, delay', spread('airflow_dag_run_first_task_scheduling_delay_seconds', dag), 's', 'From the time that a run was due until its first task was scheduled.'),
      p.graph('Tasks, time in the queue', spread('airflow_task_queued_duration_seconds', dag), 's', 'From queued to running: workers are the bound.'),
      p.graph('Tasks, time until queued', spread('airflow_task_scheduled_duration_seconds', dag), 's', 'From scheduled to queued: pools and parallelism are the bound.'),
      p.graph('Slowest DAGs, duration of a run', [query('topk(10, %s)' % quantile(0.9, 'airflow_dag_run_duration_seconds', ['dag_id'], dag), '{{dag_id}}')], 's', 'Nine runs in ten are shorter.'),
      p.graph('Slowest DAGs, duration of a task', [query('topk(10, %s)' % quantile(0.9, 'airflow_task_duration_seconds', ['dag_id'], dag), '{{dag_id}}')], 's'),
      p.graph('Reading DAG files', [
        query('max(airflow_dag_processing_pass_duration_seconds)', 'all of them'),
        query('topk(5, %s)' % quantile(0.9, 'airflow_dag_file_processing_duration_seconds', ['file']), '{{file}}'),
      ], 's'),
    ]),
    p.row('Traffic', [
      p.graph('Tasks finished, by state', [query(rate('airflow_task_finish_total', 'state', dag), '{{state}}')], 'ops', stack=true),
      p.graph('Tasks started, by DAG', [query('topk(10, %s)' % rate('airflow_task_start_total', 'dag_id', dag), '{{dag_id}}')], 'ops', stack=true),
      p.graph('Runs finished, by state', [query(rate('airflow_dag_run_duration_seconds_count', 'state', dag), '{{state}}')], 'ops', stack=true),
      p.graph('Tasks created, by operator', [query('topk(10, %s)' % rate('airflow_task_instances_created_total', 'operator'), '{{operator}}')], 'ops', stack=true),
      p.graph('Heartbeats', [
        query('sum(rate(airflow_scheduler_heartbeats_total[$__rate_interval]))', 'schedulers'),
        query('sum(rate(airflow_dag_processor_heartbeats_total[$__rate_interval]))', 'DAG processors'),
        query('sum(rate(airflow_triggerer_heartbeats_total[$__rate_interval]))', 'triggerers'),
      ], 'ops'),
      p.graph('DAGs known', [query('max(airflow_dags)', 'DAGs')]),
    ]),
    p.row('Errors', [
      p.graph('Tasks failed, by DAG', [query('topk(10, sum by (dag_id) (rate(airflow_task_finish_total{state="failed",%s}[$__rate_interval])))' % dag, '{{dag_id}}')], 'ops', stack=true),
      p.graph('Runs failed, by DAG', [query(orZero('topk(10, sum by (dag_id) (rate(airflow_dag_run_duration_seconds_count{state="failed",%s}[$__rate_interval])))' % dag), '{{dag_id}}')], 'ops', stack=true),
      p.graph('Failures, by operator', [query(orZero('topk(10, %s)' % rate('airflow_operator_failures_total', 'operator')), '{{operator}}')], 'ops', stack=true),
      p.graph('Zombies, timeouts, missed SLAs', [
        query(orZero('sum(rate(airflow_zombie_tasks_killed_total[$__rate_interval]))'), 'no sign of life'),
        query(orZero('sum(rate(airflow_dag_file_processing_timeouts_total[$__rate_interval]))'), 'DAG file timed out'),
        query(orZero('sum(rate(airflow_sla_missed_total[$__rate_interval]))'), 'SLA missed'),
        query(orZero('sum(rate(airflow_tasks_killed_externally_total[$__rate_interval]))'), 'killed from outside'),
      ], 'ops'),
      p.graph('DAG files that cannot be imported', [query('max(airflow_dag_import_errors)', 'files')]),
      p.graph('Heartbeats that failed', [query(orZero(rate('airflow_job_heartbeat_failures_total', 'job')), '{{job}}')], 'ops'),
    ]),
    p.row('Saturation', [
      p.graph('Executor', [
        query('sum by (executor) (airflow_executor_running_tasks)', '{{executor}} running'),
        query('sum by (executor) (airflow_executor_queued_tasks)', '{{executor}} queued'),
        query('sum by (executor) (airflow_executor_open_slots)', '{{executor}} open'),
      ], 'short', 'Open slots at zero and a queue: parallelism is the bound.'),
      p.graph('Pools, open slots', [query('max by (pool) (airflow_pool_slots{state="open"})', '{{pool}}')]),
      p.graph('Pools, tasks that wait for a slot', [query('max by (pool) (airflow_pool_starving_tasks)', '{{pool}}')]),
      p.graph('Scheduler', [query('max by (state) (airflow_scheduler_tasks)', '{{state}}')], 'short', 'starving: tasks that found no slot in their pool. executable: those that could run.'),
      p.graph('Queue of DAG files', [query('max(airflow_dag_processing_queued_files)', 'files')]),
      p.graph('DAG files, since last read', [query('topk(10, max by (file) (airflow_dag_file_last_run_age_seconds))', '{{file}}')], 's'),
    ]),
    p.row('Nodes (node_exporter)', [
      p.graph('CPU', [query('1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval]))', '{{instance}}')], 'percentunit', max=1),
      p.graph('Memory', [query('1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes', '{{instance}}')], 'percentunit', max=1),
      p.graph('Disk', [query('1 - node_filesystem_avail_bytes{fstype!~"tmpfs|overlay"} / node_filesystem_size_bytes', '{{instance}} {{mountpoint}}')], 'percentunit', max=1),
      p.graph('Network in', [query('sum by (instance) (rate(node_network_receive_bytes_total{device!~"lo|veth.*"}[$__rate_interval]))', '{{instance}}')], 'Bps'),
      p.graph('Network out', [query('sum by (instance) (rate(node_network_transmit_bytes_total{device!~"lo|veth.*"}[$__rate_interval]))', '{{instance}}')], 'Bps'),
      p.graph('Dropped at the card', [query('sum by (instance) (rate(node_network_receive_drop_total[$__rate_interval]))', '{{instance}}')], 'pps', 'Before Rotameter; what it loses itself stands on its own dashboard.'),
    ], collapsed=true),
    p.row('Containers (cAdvisor)', [
      p.graph('CPU', [query('topk(15, sum by (namespace, pod, name) (rate(container_cpu_usage_seconds_total{image!=""}[$__rate_interval])))', '{{namespace}} {{pod}} {{name}}')]),
      p.graph('Memory', [query('topk(15, sum by (namespace, pod, name) (container_memory_working_set_bytes{image!=""}))', '{{namespace}} {{pod}} {{name}}')], 'bytes'),
      p.graph('Network in', [query('topk(15, sum by (namespace, pod, name) (rate(container_network_receive_bytes_total[$__rate_interval])))', '{{namespace}} {{pod}} {{name}}')], 'Bps'),
      p.graph('Files written and read', [query('topk(15, sum by (namespace, pod, name) (rate(container_fs_writes_bytes_total[$__rate_interval]) + rate(container_fs_reads_bytes_total[$__rate_interval])))', '{{namespace}} {{pod}} {{name}}')], 'Bps'),
      p.graph('Seconds since a container was seen', [query('topk(15, time() - max by (namespace, pod, name) (container_last_seen{image!=""}))', '{{namespace}} {{pod}} {{name}}')], 's'),
    ], collapsed=true),
    p.row('Celery (celery-exporter or Flower)', [
      p.graph('Workers', [query('sum(celery_worker_up) or sum(flower_worker_online)', 'online')]),
      p.graph('Length of queues', [query('sum by (queue_name) (celery_queue_length)', '{{queue_name}}')]),
      p.graph('Tasks failed', [query('sum by (name) (rate(celery_task_failed_total[$__rate_interval])) or sum by (task) (rate(flower_events_total{type="task-failed"}[$__rate_interval]))', '{{name}}{{task}}')], 'ops'),
    ], collapsed=true),
  ]
)
