//! Report -> a frame of the terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::text;
use crate::live::Report;

/// Less is not readable.
const COLUMNS_MIN: u16 = 50;
const ROWS_MIN: u16 = 8;
const KEYS: &str = "q quit  i identities  d dags  s senders  l losses  tab next  up/down scroll  p pause";

/// Which list fills the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Identities,
    Dags,
    Senders,
    Losses,
}

impl List {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Identities => Self::Dags,
            Self::Dags => Self::Senders,
            Self::Senders => Self::Losses,
            Self::Losses => Self::Identities,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Identities => "identities, hottest first",
            Self::Dags => "DAGs, by the tag dag_id or by the shape of the name",
            Self::Senders => "senders of what came whole; the kernel's counts have none",
            Self::Losses => "lost or refused, since the start",
        }
    }
}

/// What is shown.
pub(super) struct View {
    url: String,
    report: Report,
    pub(super) list: List,
    /// Row of the list that stands at the top.
    pub(super) first: usize,
    pub(super) paused: bool,
    /// Why the report is old.
    pub(super) away: Option<String>,
    pub(super) failures: u32,
}

impl View {
    pub(super) fn new(url: String, report: Report) -> Self {
        Self { url, report, list: List::Identities, first: 0, paused: false, away: None, failures: 0 }
    }

    /// Takes the next answer. Without one the last stays, and it is said why.
    pub(super) fn take(&mut self, report: anyhow::Result<Report>) {
        match report {
            Ok(report) => (self.report, self.away, self.failures) = (report, None, 0),
            Err(error) => {
                self.away = Some(format!("{error:#}"));
                self.failures += 1;
            }
        }
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        if area.width < COLUMNS_MIN || area.height < ROWS_MIN {
            let (width, height) = (area.width, area.height);
            let said = format!(
                "terminal too small: {width}x{height}, {COLUMNS_MIN}x{ROWS_MIN} needed. Make it larger, or: rotameter top --once"
            );
            let wrapped = Paragraph::new(said).wrap(ratatui::widgets::Wrap { trim: true });
            return frame.render_widget(wrapped, area);
        }
        let [head, title, list, foot] = Layout::vertical([
            Constraint::Length(4),
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(area);
        self.draw_head(frame, head);
        let bold = Style::default().add_modifier(Modifier::BOLD);
        frame.render_widget(Paragraph::new(self.list.title()).style(bold), title);
        self.draw_list(frame, list);
        let reversed = Style::default().add_modifier(Modifier::REVERSED);
        frame.render_widget(Paragraph::new(KEYS).style(reversed), foot);
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect) {
        let [name, flow, sizes] = text::summary(&self.report);
        let mut types = String::new();
        for talker in &self.report.types {
            types += &format!("  {} {:.0}/s", text::printable(&talker.name), talker.per_second);
        }
        let state = match (&self.away, self.paused) {
            (Some(why), _) => format!("{} AWAY, what you see is old: {}", self.url, text::printable(why)),
            (None, true) => format!("{name} at {} PAUSED", self.url),
            (None, false) => format!("{name} at {}", self.url),
        };
        let lost = self.report.now.lost_per_second > 0.0 || self.report.now.refused_per_second > 0.0;
        let flow = Line::from(flow);
        let flow = if lost { flow.style(Style::default().add_modifier(Modifier::BOLD)) } else { flow };
        let lines =
            vec![Line::from(state), flow, Line::from(sizes), Line::from(types.trim_start().to_owned())];
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn draw_list(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let report = &self.report;
        let rows: Vec<String> = match self.list {
            List::Identities => report.identities.iter().map(text::row).collect(),
            List::Dags => report.dags.iter().map(text::row).collect(),
            List::Senders => report.senders.iter().map(text::row).collect(),
            List::Losses => report.losses.iter().map(text::loss_row).collect(),
        };
        self.first = self.first.min(rows.len().saturating_sub(usize::from(area.height)));
        let mut lines: Vec<Line<'_>> = rows.into_iter().skip(self.first).map(Line::from).collect();
        if lines.is_empty() {
            lines.push(Line::from("           -  nothing"));
        }
        lines.truncate(area.height.into());
        frame.render_widget(Paragraph::new(lines), area);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn drawn(view: &mut View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let rows = buffer.content().chunks(usize::from(width.max(1)));
        rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>() + "\n").collect()
    }

    fn view() -> View {
        View::new("http://x".to_owned(), super::super::text::tests::report())
    }

    #[test]
    fn a_frame_has_the_figures_and_the_chosen_list() {
        let mut view = view();
        let screen = drawn(&mut view, 100, 20);
        for part in ["rotameter 1.2.3", "75.0 % counted in the kernel", "kernel  airflow.ti.start.etl.t:|c"] {
            assert!(screen.contains(part), "no `{part}` in\n{screen}");
        }
        view.list = view.list.next();
        assert!(drawn(&mut view, 100, 20).contains("kernel  etl"));
        view.list = List::Losses;
        assert!(drawn(&mut view, 100, 20).contains("udp_socket_queue"));
    }

    #[test]
    fn any_size_is_drawn_and_a_small_one_says_so() {
        for (width, height) in [(1, 1), (49, 8), (50, 7), (50, 8), (3, 200), (400, 3), (300, 100)] {
            let screen = drawn(&mut view(), width, height);
            if width >= 30 && height >= 3 && (width < COLUMNS_MIN || height < ROWS_MIN) {
                assert!(screen.contains("terminal too small"), "{width}x{height}\n{screen}");
            }
        }
    }

    #[test]
    fn scrolling_stops_at_the_end_and_an_absent_daemon_is_told() {
        let mut view = view();
        view.first = 1000;
        assert!(drawn(&mut view, 100, 20).contains("airflow.ti.start"));
        view.take(Err(anyhow::anyhow!("refused")));
        let screen = drawn(&mut view, 100, 20);
        assert!(screen.contains("AWAY") && screen.contains("airflow.ti.start"), "{screen}");
        view.take(Ok(Report::default()));
        assert!(!drawn(&mut view, 100, 20).contains("AWAY"));
    }
}
