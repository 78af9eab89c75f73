//! Counters of the web server -> families.

use super::WebReading;
use super::families::{Families, float, label};

/// What client_golang exports of its handler, and what becomes of requests and connections.
pub(super) fn web(reading: &WebReading, out: &mut Families) {
    out.gauge(
        "promhttp_metric_handler_requests_in_flight",
        "Current number of scrapes being served.",
        float(reading.scrapes_in_flight),
    );
    out.labelled(
        "promhttp_metric_handler_requests_total",
        "Total number of scrapes by HTTP status code.",
        vec![
            (label("code", "200"), reading.scrapes_200),
            (label("code", "500"), reading.scrapes_500),
            (label("code", "503"), reading.scrapes_503),
        ],
        false,
    );
    out.labelled(
        "rotameter_web_requests_refused_total",
        "HTTP requests that the web configuration did not let in, by reason.",
        vec![
            (label("reason", "busy"), reading.busy),
            (label("reason", "rate_limit"), reading.rate_limited),
            (label("reason", "unauthorized"), reading.unauthorized),
        ],
        false,
    );
    out.counter(
        "rotameter_web_tls_handshake_errors_total",
        "Connections to the TLS port on which no handshake came about.",
        reading.handshake_errors,
    );
    out.labelled(
        "rotameter_web_settings_reloads_total",
        "Times that the web configuration's files had changed, by what came of reading them.",
        vec![
            (label("outcome", "failure"), reading.reload_failures),
            (label("outcome", "success"), reading.reloads),
        ],
        false,
    );
}
