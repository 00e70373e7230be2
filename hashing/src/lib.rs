//! Ring mathematics.
