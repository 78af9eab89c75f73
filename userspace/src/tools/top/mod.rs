//! Report a second -> a screen, or plain text.

mod screen;
mod text;

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::client::{Client, ConnectFlags};
use crate::live::Report;
use screen::{List, View};

/// Rows of each list without a terminal.
const PLAIN_ROWS: usize = 10;

/// Shows what goes on in a running daemon: the hottest identities, DAGs and senders, what the kernel
/// counts, what was lost and why.
#[derive(Debug, clap::Parser)]
#[command(name = "rotameter top", bin_name = "rotameter top")]
pub struct TopFlags {
    #[command(flatten)]
    connect: ConnectFlags,
    /// Print one table as plain text and end. The same where standard output is no terminal.
    #[arg(long)]
    once: bool,
    /// Print the daemon's answer as it is, JSON, and end.
    #[arg(long)]
    json: bool,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=60))]
    interval: u64,
}

/// Shows it until somebody presses q.
///
/// # Errors
///
/// The daemon does not answer at the first time; the terminal cannot be had.
pub fn top(flags: &TopFlags) -> anyhow::Result<()> {
    let client = Client::new(&flags.connect)?;
    if flags.json {
        super::print(&String::from_utf8_lossy(&client.get("/live")?));
        return Ok(());
    }
    // Before the screen changes: this message must stay.
    let report = client.report()?;
    if flags.once || !std::io::stdout().is_terminal() {
        super::print(text::page(&report, PLAIN_ROWS).trim_end());
        return Ok(());
    }
    let mut terminal = ratatui::try_init().context("taking the terminal; --once prints a plain table")?;
    let shown = show(&mut terminal, &client, report, Duration::from_secs(flags.interval));
    ratatui::restore();
    shown
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    client: &Client,
    report: Report,
    interval: Duration,
) -> anyhow::Result<()> {
    let mut view = View::new(client.url().to_owned(), report);
    let mut asked = Instant::now();
    loop {
        terminal.draw(|frame| view.draw(frame)).context("writing to the terminal")?;
        let wait = interval.saturating_sub(asked.elapsed());
        if event::poll(wait).context("reading the keyboard")? {
            if let Event::Key(key) = event::read().context("reading the keyboard")?
                && key.kind == KeyEventKind::Press
            {
                let control = key.modifiers.contains(KeyModifiers::CONTROL);
                match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    KeyCode::Char('c') if control => return Ok(()),
                    KeyCode::Char('p' | ' ') => view.paused = !view.paused,
                    KeyCode::Char('i' | '1') => view.list = List::Identities,
                    KeyCode::Char('d' | '2') => view.list = List::Dags,
                    KeyCode::Char('s' | '3') => view.list = List::Senders,
                    KeyCode::Char('l' | '4') => view.list = List::Losses,
                    KeyCode::Tab | KeyCode::Right => view.list = view.list.next(),
                    KeyCode::Down | KeyCode::Char('j') => view.first = view.first.saturating_add(1),
                    KeyCode::Up | KeyCode::Char('k') => view.first = view.first.saturating_sub(1),
                    KeyCode::Home => view.first = 0,
                    _ => {}
                }
            }
            continue;
        }
        asked = Instant::now();
        if !view.paused {
            view.take(client.report());
        }
        if view.failures >= FAILURES_MAX {
            bail!("{}", view.away.unwrap_or_default());
        }
    }
}

/// Looks in vain, one after the other, before it ends. A restart takes fewer.
const FAILURES_MAX: u32 = 300;
