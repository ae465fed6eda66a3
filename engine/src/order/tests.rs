//! Promises of an order, one row each.
