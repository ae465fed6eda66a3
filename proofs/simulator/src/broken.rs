//! What a check says when something is wrong: which law, and what was seen.

use std::fmt;

/// A law that the world was seen to break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The law's number; 0 for a panic of the world itself.
    pub law: u8,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "law {} broken: {}", self.law, self.seen)
    }
}

/// What a check comes to.
pub type Checked = Result<(), Broken>;

/// `Ok` where `holds`; else `law` is broken, by what `seen` says.
pub fn demand(holds: bool, law: u8, seen: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Broken { law, seen: seen() }) }
}
