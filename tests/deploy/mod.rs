//! What `deploy/` ships -> rendered, validated and, where this machine can, run.

mod tools;

mod dashboards;
mod hosts;
mod manifests;
mod promql;
mod rules;
