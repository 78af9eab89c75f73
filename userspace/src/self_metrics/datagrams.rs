//! Kernel counters, ledger, listeners -> where every datagram went.

use ingest_ebpf::verdict::{Door, Outcome, Verdict};

use super::families::{Families, float, label, sorted};
use super::{Reading, SocketReading};
use crate::{kernel::counters::Counters, ledger::TRANSPORTS};

/// The ledger of datagrams: seen by a door, received by userspace, lost.
pub(super) fn datagrams(reading: &Reading<'_>, out: &mut Families) {
    if let Some(kernel) = &reading.kernel {
        let mut samples = Vec::new();
        for door in Door::ALL {
            for verdict in Verdict::ALL {
                let labels = format!(
                    "{},{},{}",
                    label("door", door.name()),
                    label("reason", verdict.reason()),
                    label("verdict", verdict.outcome().name())
                );
                samples.push((labels, kernel.counters.datagrams(door, verdict)));
            }
        }
        out.labelled(
            "rotameter_datagrams_total",
            "Datagrams that a door saw, by what became of them: counted in slots, ringed whole, or passed to the stack.",
            sorted(samples),
            false,
        );
    }
    let received = TRANSPORTS
        .map(|transport| (label("transport", transport.name()), reading.ledger.datagrams(transport)));
    out.labelled(
        "rotameter_received_datagrams_total",
        "Datagrams that came whole to userspace, by transport.",
        sorted(received.to_vec()),
        false,
    );
    let consumed = reading.kernel.as_ref().map_or(0, |kernel| consumed(kernel.counters, Door::SocketFilter));
    out.labelled(
        "rotameter_lost_datagrams_total",
        "Datagrams that nobody has any more, by the place where they were lost.",
        vec![(
            label("where", "udp_socket_queue"),
            socket_queue_losses(reading.sockets.udp_socket_drops, consumed),
        )],
        false,
    );
    out.gauge(
        "rotameter_udp_receive_buffer_bytes",
        "Receive buffer of the UDP socket, as the kernel counts it.",
        float(reading.sockets.udp_receive_buffer_bytes),
    );
    out.counter(
        "rotameter_udp_read_errors_total",
        "Reads of a UDP socket that failed; the reader goes on.",
        reading.sockets.udp_read_errors,
    );
    out.labelled(
        "rotameter_tcp_connections_refused_total",
        "TCP connections that were closed at once, by reason.",
        vec![
            (label("reason", "accept_error"), reading.sockets.tcp.accept_errors),
            (label("reason", "too_many"), reading.sockets.tcp.refused),
        ],
        false,
    );
    out.counter(
        "rotameter_tcp_lines_cut_total",
        "Half lines that the shutdown cut off TCP connections.",
        reading.sockets.tcp.lines_cut_by_shutdown,
    );
    unix_sockets(&reading.sockets, out);
    out.counter(
        "rotameter_malformed_ring_records_total",
        "Ring records that are not of our layout. Always 0.",
        reading.malformed_records,
    );
}

fn unix_sockets(sockets: &SocketReading, out: &mut Families) {
    out.counter(
        "rotameter_unixgram_read_errors_total",
        "Reads of a Unix datagram socket that failed; the reader goes on.",
        sockets.unixgram_read_errors,
    );
    out.counter(
        "rotameter_unixgram_datagrams_cut_total",
        "Unix datagrams of more than 65536 bytes; the lines that fit count.",
        sockets.unixgram_cut,
    );
    let unix = &sockets.unix;
    out.counter(
        "rotameter_unix_connections_total",
        "Connections to the Unix stream socket.",
        unix.connections,
    );
    out.counter(
        "rotameter_unix_connection_errors_total",
        "Connections to the Unix stream socket that ended by a read error.",
        unix.connection_errors,
    );
    out.counter(
        "rotameter_unix_too_long_lines_total",
        "Lines over the Unix stream socket that were too long, and skipped.",
        unix.too_long_lines,
    );
    out.labelled(
        "rotameter_unix_connections_refused_total",
        "Connections to the Unix stream socket that were closed at once, by reason.",
        vec![
            (label("reason", "accept_error"), unix.accept_errors),
            (label("reason", "too_many"), unix.refused),
        ],
        false,
    );
    out.counter(
        "rotameter_unix_lines_cut_total",
        "Half lines that the shutdown cut off connections to the Unix stream socket.",
        unix.lines_cut_by_shutdown,
    );
}

/// Datagrams that were lost at our UDP sockets: dropped there, less what the filter consumed, which
/// the kernel counts in the same place. The kernel's counter has 32 bits.
#[must_use]
pub fn socket_queue_losses(socket_drops: u64, consumed_by_filter: u64) -> u64 {
    let difference = socket_drops.wrapping_sub(consumed_by_filter) & 0xffff_ffff;
    // The two are read one after the other: a consumed datagram may be in only one of them yet.
    if difference > u64::from(u32::MAX / 2) { 0 } else { difference }
}

/// Datagrams that `door` consumed.
#[must_use]
pub fn consumed(counters: &Counters, door: Door) -> u64 {
    Verdict::ALL
        .into_iter()
        .filter(|verdict| verdict.outcome() != Outcome::Passed)
        .map(|verdict| counters.datagrams(door, verdict))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_drops_less_what_the_filter_consumed() {
        assert_eq!(socket_queue_losses(10, 4), 6);
        assert_eq!(socket_queue_losses(3, 4), 0);
        assert_eq!(socket_queue_losses(2, u64::from(u32::MAX)), 3);
        assert_eq!(socket_queue_losses(5, 5), 0);
    }
}
