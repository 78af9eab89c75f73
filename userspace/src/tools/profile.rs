//! Name of a profile -> its mapping file on standard output.

use clap::{Parser, Subcommand};

use super::print;
use crate::cli::ProfileFlags;
use crate::config;
use crate::profile::ALL;

/// Lists the built-in profiles, or shows the mapping file that one of them is.
#[derive(Debug, Parser)]
#[command(name = "rotameter profile", bin_name = "rotameter profile")]
pub struct ProfileCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Names all profiles, and says what each is for.
    List,
    /// Prints the mapping file of a profile.
    Show {
        /// Its name.
        name: String,
        /// Release of Airflow, such as 2.11 or 3.1.
        #[arg(long, alias = "profile.airflow-version", value_name = "auto|VERSION", default_value = "auto")]
        airflow_version: String,
        /// Airflow's statsd_prefix; repeat it for several deployments.
        #[arg(long, alias = "profile.prefix", value_name = "PREFIX", default_value = "airflow")]
        prefix: Vec<String>,
        /// Library that Airflow sends with.
        #[arg(long, alias = "profile.client", value_name = "auto|statsd|datadog", default_value = "auto")]
        client: String,
        /// Id of a DAG that has dots in it; repeat it for several.
        #[arg(long, alias = "profile.dag-id", value_name = "ID")]
        dag_id: Vec<String>,
    },
}

/// Prints what was asked for.
///
/// # Errors
///
/// There is no such profile, or a setting does not do.
pub fn profile(command: &ProfileCommand) -> anyhow::Result<()> {
    match &command.action {
        Action::List => {
            ALL.iter().for_each(|profile| print(&format!("{:<16} {}", profile.name, profile.summary)))
        }
        Action::Show { name, airflow_version, prefix, client, dag_id } => {
            let flags = ProfileFlags {
                profile: Some(name.clone()),
                prefix: prefix.clone(),
                airflow_version: airflow_version.clone(),
                client: client.clone(),
                dag_id: dag_id.clone(),
                dag_id_file: None,
            };
            if let Some(selected) = config::profile::load(&flags)? {
                print(selected.profile.render(&selected.settings).trim_end());
            }
        }
    }
    Ok(())
}
