//! Table of flags -> help, manual page, completion scripts.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};

use super::kingpin::{PAGES, Page};
use crate::version;

/// The heading that a flag stands under, by how its name begins; the first that fits.
const HEADINGS: [(&str, &str); 18] = [
    ("profile", "Mapping"),
    ("statsd.mapping", "Mapping"),
    ("statsd.cache", "Mapping"),
    ("debug.dump", "Mapping"),
    ("check-config", "Mapping"),
    ("statsd.parse", "Tag dialects"),
    ("statsd.relay", "Relay"),
    ("statsd.event", "Idle, taken for statsd_exporter's sake"),
    ("statsd.udp-packet", "Idle, taken for statsd_exporter's sake"),
    ("statsd.", "Listeners"),
    ("web.", "HTTP"),
    ("sender.", "Senders"),
    ("registry.", "Registry"),
    ("ebpf", "Counting in the kernel"),
    ("xdp.", "Counting in the kernel"),
    ("promotion.", "Counting in the kernel"),
    ("log.", "Log"),
    ("", "Other"),
];

/// The page as it is printed.
pub(super) fn page(table: Command, page: Page) -> String {
    match page {
        Page::Help => shown(table).render_long_help().to_string(),
        Page::Man => man(&shown(table)),
        Page::Version => version(),
        Page::CompletionBash => {
            let flags = completions(&table).join(" ");
            format!(
                "_rotameter() {{\n  COMPREPLY=($(compgen -W \"{flags}\" -- \"${{COMP_WORDS[COMP_CWORD]}}\"))\n}}\n\
                 complete -o default -F _rotameter rotameter\n"
            )
        }
        Page::CompletionZsh => {
            let flags = completions(&table).join(" ");
            format!("#compdef rotameter\ncompadd -- {flags}\n_files\n")
        }
    }
}

/// In the form of Prometheus' programs. Scripts that look for `statsd_exporter, version` find that too.
fn version() -> String {
    let (version, revision) = (version::VERSION, version::REVISION);
    format!(
        "rotameter, version {version} (branch: , revision: {revision})\n  \
           platform:         linux/{}\n  \
           behaves as:       statsd_exporter, version {}\n",
        version::go_architecture(),
        version::STATSD_EXPORTER
    )
}

/// The table as people read it: under headings, a switch and its negation as one.
fn shown(table: Command) -> Command {
    let pages = PAGES.iter().filter(|(name, _)| *name != "help-long").map(|(name, page)| {
        let arg = Arg::new(*name).long(*name).action(ArgAction::SetTrue).help_heading("Pages");
        match page {
            Page::Help => arg.short('h').help("This text."),
            Page::Man => arg.help("The same as a manual page (roff)."),
            Page::Version => arg.help("The version."),
            Page::CompletionBash => arg.help("A script that completes flags in bash."),
            Page::CompletionZsh => arg.help("A script that completes flags in zsh."),
        }
    });
    let table = table.mut_args(|arg| {
        let Some(long) = arg.get_long() else { return arg };
        let heading = HEADINGS.iter().find(|(start, _)| long.starts_with(start));
        let heading = heading.map_or("Other", |(_, heading)| *heading);
        if long.starts_with("no-") {
            return arg.hide(true);
        }
        if !matches!(arg.get_action(), ArgAction::SetTrue) {
            return arg.help_heading(heading);
        }
        // The table holds names for as long as the process lives, and that ends with this page.
        let both: &'static str = format!("[no-]{long}").leak();
        arg.help_heading(heading).long(both)
    });
    table.args(pages)
}

fn man(table: &Command) -> String {
    let roff = |text: &str| text.replace('\\', "\\e").replace('-', "\\-").replace("\n.", "\n\\&.");
    let mut out = String::from(".TH rotameter 1\n.SH NAME\nrotameter\n.SH DESCRIPTION\n");
    let about = table.get_long_about().map(ToString::to_string).unwrap_or_default();
    // Writing into a String cannot fail.
    let _ = writeln!(out, "{}\n.SH OPTIONS", roff(&about));
    for arg in table.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let Some(long) = arg.get_long() else { continue };
        let takes_value = !matches!(arg.get_action(), ArgAction::SetTrue);
        let value = arg.get_value_names().and_then(|names| names.first()).filter(|_| takes_value);
        let value = value.map(|name| format!("={name}")).unwrap_or_default();
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(out, ".TP\n\\fB\\-\\-{}{}\\fR\n{}", roff(long), roff(&value), roff(&help));
        if let Some(default) = arg.get_default_values().first().filter(|_| takes_value) {
            let _ = writeln!(out, "Default: {}", roff(&default.to_string_lossy()));
        }
    }
    out
}

fn completions(table: &Command) -> Vec<String> {
    let flags = table.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(Arg::get_long);
    flags.chain(PAGES.iter().map(|(name, _)| *name)).map(|flag| format!("--{flag}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(asked: Page) -> String {
        page(<super::super::Cli as clap::CommandFactory>::command(), asked)
    }

    #[test]
    fn help_names_switches_once_under_their_heading() {
        let help = print(Page::Help);
        for part in [
            "Mapping:\n",
            "Listeners:\n",
            "--[no-]check-config",
            "--[no-]statsd.parse-librato-tags",
            "--statsd.cache-size <COUNT>",
            "--help-man",
            "-h, --help",
        ] {
            assert!(help.contains(part), "no `{part}` in\n{help}");
        }
        assert!(!help.contains("--no-statsd.parse"), "{help}");
        assert!(!help.contains("Other:"), "a flag has no heading\n{help}");
    }

    #[test]
    fn the_version_is_told_as_prometheus_programs_do() {
        let version = print(Page::Version);
        let first = concat!("rotameter, version ", env!("CARGO_PKG_VERSION"), " (branch: , revision: ");
        assert!(version.starts_with(first), "{version}");
        assert!(version.contains("statsd_exporter, version 0.30.0\n"), "{version}");
    }

    #[test]
    fn the_manual_page_has_each_flag_with_its_default() {
        let man = print(Page::Man);
        assert!(man.starts_with(".TH rotameter 1\n"));
        assert!(man.contains("\\fB\\-\\-statsd.cache\\-size=COUNT\\fR\n"), "{man}");
        assert!(man.contains("Default: 1000\n"), "{man}");
    }

    #[test]
    fn completions_name_the_flags() {
        for asked in [Page::CompletionBash, Page::CompletionZsh] {
            let script = print(asked);
            assert!(script.contains("--statsd.listen-udp ") && script.contains("--help"), "{script}");
            assert!(!script.contains("ebpf.doors"), "hidden ones stay hidden");
        }
    }
}
