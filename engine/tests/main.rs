//! The one integration binary of the engine crate: tests that read the workspace itself.

mod tidy;
