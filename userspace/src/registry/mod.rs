//! Events, mapped -> families and series.
