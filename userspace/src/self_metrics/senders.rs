//! What is known of senders -> families.

use super::families::{Families, float, label};
use crate::sender::SenderReading;

/// Without `--sender.labels` there is none of these.
pub(super) fn senders(reading: Option<&SenderReading>, out: &mut Families) {
    let Some(SenderReading { directory, unknown }) = reading else { return };
    out.gauge("rotameter_sender_pods", "Pods that are known by address.", float(directory.pods));
    out.counter(
        "rotameter_sender_pods_refused_total",
        "Pods that there was no room for; what they send has no labels of theirs.",
        directory.refused,
    );
    out.labelled(
        "rotameter_sender_list_requests_total",
        "Requests for the list of pods and for changes of it, by outcome.",
        vec![
            (label("outcome", "failure"), directory.requests_failed),
            (label("outcome", "success"), directory.requests_succeeded),
        ],
        false,
    );
    out.counter(
        "rotameter_sender_unknown_datagrams_total",
        "Datagrams whose sender is no pod that is known.",
        *unknown,
    );
}
