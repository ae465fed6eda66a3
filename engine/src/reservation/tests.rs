//! Promises of a coordinator, one row each.
