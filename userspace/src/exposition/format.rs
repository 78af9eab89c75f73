//! A format's name -> its content type.

/// What an exposition is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    #[default]
    Text,
    /// OpenMetrics text, by the version that was asked for; the two are written alike.
    OpenMetrics(OpenMetricsVersion),
    /// `io.prometheus.client.MetricFamily`, the only format that carries native histograms.
    Protobuf(Encoding),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMetricsVersion {
    V0_0_1,
    V1_0_0,
}

/// How protobuf messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Binary, each message behind its length.
    Delimited,
    /// Protobuf's text form, for people.
    Text,
    /// The same with one line for each family.
    CompactText,
}

/// What the reader wants done with names that its format cannot hold. The registry has no such names,
/// so the choice shows in the content type only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escaping {
    AllowUtf8,
    #[default]
    Underscores,
    Dots,
    Values,
}

impl Escaping {
    pub const ALL: [Self; 4] = [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values];

    /// As written in the parameter `escaping`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }
}

impl Format {
    /// The value of the header `Content-Type`.
    #[must_use]
    pub fn content_type(self, escaping: Escaping) -> String {
        const PROTOBUF: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily;";
        let escaping = escaping.name();
        match self {
            Self::Text => format!("text/plain; version=0.0.4; charset=utf-8; escaping={escaping}"),
            Self::OpenMetrics(version) => {
                let version = match version {
                    OpenMetricsVersion::V0_0_1 => "0.0.1",
                    OpenMetricsVersion::V1_0_0 => "1.0.0",
                };
                format!("application/openmetrics-text; version={version}; charset=utf-8; escaping={escaping}")
            }
            Self::Protobuf(encoding) => {
                let encoding = match encoding {
                    Encoding::Delimited => "delimited",
                    Encoding::Text => "text",
                    Encoding::CompactText => "compact-text",
                };
                format!("{PROTOBUF} encoding={encoding}; escaping={escaping}")
            }
        }
    }
}
