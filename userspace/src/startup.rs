//! Features, their states and reasons -> the start-up table.

/// Feature, state, why; the form in which rows travel to the landing page, too.
pub type Row = (String, String, String);

/// Why XDP is off where nobody wants it.
pub const NO_INTERFACE_NAMED: &str = "no interface is named (--xdp.interface)";

/// The rows as a table with aligned columns, one line each, a heading above.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let heading = ("feature", "state", "why");
    let cells =
        || std::iter::once(heading).chain(rows.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())));
    let feature_width = cells().map(|(feature, ..)| feature.chars().count()).max().unwrap_or(0);
    let state_width = cells().map(|(_, state, _)| state.chars().count()).max().unwrap_or(0);
    let mut table = String::new();
    for (feature, state, why) in cells() {
        let line = format!("{feature:feature_width$}  {state:state_width$}  {why}");
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        let rows =
            [row("udp", "on", "[::]:9125"), row("socket filter", "off", "--ebpf=off"), row("x", "on", "")];
        assert_eq!(
            table(&rows),
            "feature        state  why\n\
             udp            on     [::]:9125\n\
             socket filter  off    --ebpf=off\n\
             x              on\n"
        );
    }
}
