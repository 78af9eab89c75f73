//! What `deploy/` ships -> rendered, validated and, where this machine can, run.

mod tools;

mod dashboards;
mod promql;
mod rules;
