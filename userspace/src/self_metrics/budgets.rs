//! Label values over their budgets -> families that name them.

use std::collections::BTreeMap;

use super::families::{Families, float, label};
use crate::registry::{FamilyKind, Offender};

/// Label values that these families name.
pub const OFFENDERS_SHOWN: usize = 10;
/// Of a name or value; a sender may have sent any length.
const SHOWN_BYTES_MAX: usize = 128;

pub(super) fn budgets(offenders: &[Offender<'_>], out: &mut Families) {
    // Values that differ only behind the cut are one.
    let (mut events, mut series) = (BTreeMap::<_, u64>::new(), BTreeMap::<_, f64>::new());
    for offender in offenders {
        let labels = [("family", offender.family), ("label", offender.label), ("value", offender.value)]
            .map(|(name, value)| label(name, shown(value)))
            .join(",");
        *events.entry(labels.clone()).or_default() += offender.events;
        *series.entry(labels).or_default() += offender.refused_series;
    }
    if offenders.is_empty() {
        return;
    }
    out.add(
        FamilyKind::Counter,
        "rotameter_label_budget_events_total",
        "Events without room in the budget of their label value (max_series_per_label), of those with the most.",
        events.into_iter().map(|(labels, events)| (labels, float(events))).collect(),
    );
    out.add(
        FamilyKind::Gauge,
        "rotameter_label_budget_refused_series",
        "Estimate of how many series those events would have made.",
        series.into_iter().collect(),
    );
}

fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offenders_are_named_and_long_values_cut() {
        let long = "\u{e4}".repeat(100);
        let other = format!("{long}x");
        let of = |value| Offender {
            family: "f",
            label: "dag_id",
            value,
            series: 1,
            events: 2,
            refused_series: 1.0,
        };
        let mut out = Families(Vec::new());
        budgets(&[of("a\"b"), of(&long), of(&other)], &mut out);
        let [events, series] = &*out.0 else { panic!("two families") };
        let cut = format!("family=\"f\",label=\"dag_id\",value=\"{}\"", "\u{e4}".repeat(64));
        let expected = [("family=\"f\",label=\"dag_id\",value=\"a\\\"b\"".to_owned(), 2.0), (cut, 4.0)];
        assert_eq!(events.samples, expected);
        assert_eq!(series.samples.len(), 2);
    }
}
