//! Servers that this command is itself, when it is started again under another name.

mod asked;
pub(crate) mod noop;
pub(crate) mod typical;
