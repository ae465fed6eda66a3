//! Promises of a cart, one row each.
