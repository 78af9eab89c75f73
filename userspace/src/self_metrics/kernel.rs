//! Doors, promotion -> families.

use ingest_ebpf::verdict::Door;

use super::Reading;
use super::families::{Families, float, label};
use crate::registry::FamilyKind;

pub(super) fn kernel(reading: &Reading<'_>, out: &mut Families) {
    let doors = reading.kernel.as_ref().map_or((0, 0, 0), |kernel| {
        (kernel.xdp_interfaces.len() as u64, kernel.socket_filters_open, u64::from(kernel.loopback_open))
    });
    out.add(
        FamilyKind::Gauge,
        "rotameter_door_open",
        "Interfaces (XDP, loopback) or sockets (socket filter) on which a door is open.",
        vec![
            (label("door", Door::Loopback.name()), float(doors.2)),
            (label("door", Door::SocketFilter.name()), float(doors.1)),
            (label("door", Door::Xdp.name()), float(doors.0)),
        ],
    );
    let Some(kernel) = &reading.kernel else { return };
    let promotion = kernel.promotion;
    out.gauge(
        "rotameter_promoted_identities",
        "Identities that the kernel counts at present.",
        float(promotion.promoted().len() as u64),
    );
    out.gauge("rotameter_slots", "Slots there are.", f64::from(kernel.slots));
    out.counter("rotameter_promotions_total", "Identities promoted.", promotion.promotions);
    out.counter("rotameter_demotions_total", "Identities demoted.", promotion.demotions);
    out.counter(
        "rotameter_promotions_refused_total",
        "Identities that found no place in the kernel's table.",
        promotion.refused,
    );
    out.counter(
        "rotameter_listen_refused_total",
        "Destinations that found no room in the kernel's listen set; XDP passes what goes there.",
        kernel.listen_refused,
    );
    out.counter(
        "rotameter_slot_lines_total",
        "Lines that were counted in slots and drained from there.",
        reading.ledger.slot_lines,
    );
}
