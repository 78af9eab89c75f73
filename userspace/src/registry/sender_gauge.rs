//! Values of several senders -> one gauge.

use std::time::Duration;

/// How the values of several senders become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Combine {
    /// The newest.
    Last,
    Sum,
    Max,
    Min,
}

impl Combine {
    pub const ALL: [Self; 4] = [Self::Last, Self::Sum, Self::Max, Self::Min];

    /// As a mapping file spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Sum => "sum",
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}

/// How a gauge is kept for each sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderGaugeOptions {
    pub combine: Combine,
    /// A sender that has not sent the gauge for longer has no part in it. Not zero.
    pub expiry: Duration,
}
