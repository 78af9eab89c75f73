//! Event -> family name and labels.
