//! The one integration binary of the engine crate: tests that read the workspace itself.

// The allowance for tests in clippy.toml reaches test functions only, not what they call.
#![allow(clippy::unwrap_used)]

mod tidy;
