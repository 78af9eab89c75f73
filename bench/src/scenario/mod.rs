//! A name -> a scenario: what it measures, and how.

use crate::{
    conditions::Watch,
    lab::Lab,
    machine,
    report::{Chapter, Findings, Row},
};

pub mod kernel_cost;
pub mod userspace;

pub mod mapping;

pub mod exposition;

pub mod registry;

pub mod live;

pub mod idle;

pub mod offer;
pub mod packet_socket;
pub mod totals;
pub mod trial;
pub mod workload;

pub mod agreement;
pub mod capacity;
pub mod churn;
pub mod cold;
pub mod gauges;
pub mod loopback;
pub mod overload;
pub mod passed;
pub mod scaling;

pub mod memory;
pub mod scrape;

pub mod cpu;
pub mod startup;
pub mod visible;

/// Something that can be measured.
#[derive(Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    /// Whether it needs root: namespaces, programs of its own.
    pub root: bool,
    /// Whether it measures programs named with `--versus`, too.
    pub versus: bool,
    run: fn(&Lab) -> anyhow::Result<Findings>,
}

/// All scenarios, in the order in which they are run.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "calibration",
        about: "one dependent addition: the CPU's clock, to put machines in proportion",
        root: false,
        versus: false,
        run: |lab| {
            let values: Vec<f64> = (0..lab.runs).map(|_| machine::dependent_add_ns()).collect();
            Ok(vec![Row::new("calibration", "one dependent addition", "ns", &values)].into())
        },
    },
    Scenario {
        name: "kernel-cost",
        about: "nanoseconds of the kernel program, by number of lines and length of name",
        root: true,
        versus: false,
        run: |lab| kernel_cost::measure(&lab.object()?, lab.runs),
    },
    Scenario {
        name: "userspace",
        about: "from ring to registry, and merely walking the ring",
        root: true,
        versus: false,
        run: |lab| Ok(userspace::measure(&lab.object()?, lab.runs)?.into()),
    },
    Scenario {
        name: "mapping",
        about: "what a mapping file costs: to load, warm, and for new names",
        root: false,
        versus: false,
        run: |lab| Ok(mapping::measure(lab.runs)?.into()),
    },
    Scenario {
        name: "registry",
        about: "memory of a series inside the registry, by type",
        root: false,
        versus: false,
        run: |_| Ok(registry::measure()?.into()),
    },
    Scenario {
        name: "exposition",
        about: "writing 500,000 series in each format, without HTTP",
        root: false,
        versus: false,
        run: |lab| Ok(exposition::measure(lab.runs)?.into()),
    },
    Scenario {
        name: "live",
        about: "doors and rings inside the generator's process: what the parts carry",
        root: true,
        versus: false,
        run: |lab| Ok(live::measure(&lab.object()?, lab.runs, lab.duration)?.into()),
    },
    Scenario {
        name: "idle",
        about: "CPU and memory of a daemon that nobody talks to",
        root: true,
        versus: false,
        run: |lab| Ok(idle::measure(&lab.ours()?, lab.idle)?.into()),
    },
    Scenario {
        name: "agreement",
        about: "whether all servers show the same for the same datagrams, series by series",
        root: true,
        versus: true,
        run: agreement::measure,
    },
    Scenario {
        name: "cpu",
        about: "CPU of a datagram, in process and kernel, at 10,000/s, 50,000/s and flat out",
        root: true,
        versus: true,
        run: cpu::measure,
    },
    Scenario {
        name: "capacity",
        about: "the highest rate without loss: hot and mixed, by door, each with its own defaults",
        root: true,
        versus: true,
        run: capacity::measure,
    },
    Scenario {
        name: "overload",
        about: "twice and ten times the limit: what is taken, and that every loss is counted",
        root: true,
        versus: false,
        run: overload::measure,
    },
    Scenario {
        name: "cold",
        about: "CPU of a name never seen before",
        root: true,
        versus: true,
        run: cold::measure,
    },
    Scenario {
        name: "churn",
        about: "a hot set that moves on through very many identities",
        root: true,
        versus: false,
        run: churn::measure,
    },
    Scenario {
        name: "gauges",
        about: "a whole fleet at its own pace: what counting its gauges in the kernel saves",
        root: true,
        versus: false,
        run: gauges::measure,
    },
    Scenario {
        name: "scaling",
        about: "one generator, then two: how the rate grows over cores and rings",
        root: true,
        versus: false,
        run: scaling::measure,
    },
    Scenario {
        name: "loopback",
        about: "our doors on loopback against a socket that only counts: CPU of the whole node",
        root: true,
        versus: true,
        run: loopback::measure,
    },
    Scenario {
        name: "passed",
        about: "what our program adds to other people's frames",
        root: true,
        versus: false,
        run: passed::measure,
    },
    Scenario {
        name: "scrape",
        about: "CPU, time and memory of scrapes by series; ingestion while scraped",
        root: true,
        versus: true,
        run: scrape::measure,
    },
    Scenario {
        name: "memory",
        about: "resident memory of the server for a series, by type",
        root: true,
        versus: true,
        run: memory::measure,
    },
    Scenario {
        name: "visible",
        about: "from a datagram to the scrape that shows it",
        root: true,
        versus: true,
        run: visible::measure,
    },
    Scenario {
        name: "startup",
        about: "from the start of the process until it takes datagrams",
        root: true,
        versus: true,
        run: startup::measure,
    },
];

/// The scenarios with these names, in the order of `ALL`; all of them for no name, or for `all`.
///
/// # Errors
///
/// There is none of that name.
pub fn named(names: &[String]) -> anyhow::Result<Vec<Scenario>> {
    for name in names {
        anyhow::ensure!(
            name == "all" || ALL.iter().any(|scenario| scenario.name == name),
            "there is no scenario \"{name}\"; `cargo xtask bench list` shows them all"
        );
    }
    let everything = names.is_empty() || names.iter().any(|name| name == "all");
    let wanted = |scenario: &&Scenario| everything || names.iter().any(|name| name == scenario.name);
    Ok(ALL.iter().filter(wanted).copied().collect())
}

impl Scenario {
    /// Runs it. A failure is part of the chapter, which then holds no figure.
    #[must_use]
    pub fn run(&self, lab: &Lab) -> Chapter {
        let watch = Watch::start();
        let (findings, failure) = match (self.run)(lab) {
            Ok(findings) => (findings, None),
            Err(error) => (Findings::default(), Some(format!("{error:#}"))),
        };
        let conditions = watch.conditions();
        Chapter { scenario: self.name, about: self.about, conditions, findings, failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_found_by_name() {
        let names = |wanted: &[&str]| -> anyhow::Result<Vec<&str>> {
            let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            Ok(named(&wanted)?.iter().map(|scenario| scenario.name).collect())
        };
        assert_eq!(names(&["live", "mapping"]).expect("both are there"), ["mapping", "live"]);
        assert_eq!(names(&[]).expect("all").len(), ALL.len());
        assert_eq!(names(&["all"]).expect("all").len(), ALL.len());
        assert!(names(&["lives"]).expect_err("no such").to_string().contains("bench list"));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
