//! Series of a family -> how many of them one label value has.

/// Bound for the series that one value of a label may have in a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelBudget {
    /// Label name.
    pub label: Box<str>,
    /// Not zero.
    pub series_max: u32,
}
