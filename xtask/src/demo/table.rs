//! Scrapes -> one line a second.

use std::time::Instant;

use super::metrics::{Promoted, Scrape};

/// One number of the table: which samples of the exposition it adds up.
struct Column {
    title: &'static str,
    family: &'static str,
    label: Option<(&'static str, &'static str)>,
}

const DATAGRAMS: &str = "rotameter_datagrams_total";

const COLUMNS: &[Column] = &[
    Column { title: "in slots", family: DATAGRAMS, label: Some(("verdict", "counted")) },
    Column { title: "ringed", family: DATAGRAMS, label: Some(("verdict", "ringed")) },
    Column { title: "passed", family: DATAGRAMS, label: Some(("verdict", "passed")) },
    Column { title: "lost", family: "rotameter_lost_datagrams_total", label: None },
    Column { title: "promoted", family: "rotameter_promoted_identities", label: None },
];

/// Identities are whole lines; a tagged one would fill the terminal.
const IDENTITY_CHARS_MAX: usize = 90;

/// The table as it grows.
pub(super) struct Progress {
    start: Instant,
    rows: u32,
    last: Option<(Instant, f64)>,
}

impl Progress {
    pub(super) fn start() -> Self {
        let titles = COLUMNS.iter().map(|column| format!("{:>12}", column.title)).collect::<String>();
        println!("{:>6} {:>12}{titles}", "second", "datagrams/s");
        Self { start: Instant::now(), rows: 0, last: None }
    }

    pub(super) fn rows(&self) -> u32 {
        self.rows
    }

    pub(super) fn print(&mut self, scrape: &Scrape) {
        self.rows += 1;
        let now = Instant::now();
        let seen = scrape.sum(DATAGRAMS, None).unwrap_or(0.0);
        let rate = self.last.map(|(then, before)| (seen - before) / now.duration_since(then).as_secs_f64());
        self.last = Some((now, seen));
        let seconds = now.duration_since(self.start).as_secs();
        println!("{seconds:>6} {:>12}{}", whole(rate), cells(scrape));
    }

    /// The last row, with what the sender says it sent.
    pub(super) fn print_end(&self, scrape: &Scrape, sent: Option<u64>) {
        println!("{:>6} {:>12}{}", "end", "", cells(scrape));
        match sent {
            Some(sent) => println!("\ndemo: {sent} datagrams were sent"),
            None => println!("\ndemo: the sender was stopped before it could say how many it sent"),
        }
    }
}

fn cells(scrape: &Scrape) -> String {
    // The daemon exports a reason only once it has happened, so absence there means none.
    let none = scrape.sum("rotameter_promoted_identities", None).map(|_| 0.0);
    let value = |column: &Column| whole(scrape.sum(column.family, column.label).or(none));
    COLUMNS.iter().map(|column| format!("{:>12}", value(column))).collect()
}

/// A dash for what the daemon does not export: unknown is not zero.
fn whole(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.0}"))
}

pub(super) fn print_promoted(promoted: &[Promoted], count: usize) {
    if promoted.is_empty() {
        return;
    }
    println!("       busiest of {} promoted identities:", promoted.len());
    for Promoted { identity, rate } in promoted.iter().take(count) {
        // Identities come from the network: no control character may reach the terminal.
        let shown = identity.escape_debug().take(IDENTITY_CHARS_MAX).collect::<String>();
        println!("       {rate:>10.1} lines/s  {shown}");
    }
}
