//! Registry -> exposition text.
