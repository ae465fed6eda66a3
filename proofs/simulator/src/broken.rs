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

impl Broken {
    /// What a text says that is not the checker's own: by the law it names, as the engine's assertions do ("law 1 broken by
    /// …"), else by `otherwise`.
    pub fn told(text: String, otherwise: u8) -> Self {
        let named = text.split("law ").skip(1).find_map(|rest| {
            let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
            rest[..digits].parse().ok()
        });
        Self { law: named.unwrap_or(otherwise), seen: text }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_breaks_the_law_that_it_names() {
        for (text, law) in [
            ("panicked at engine/src/stock/fold.rs:26:13:\nlaw 1 broken by sku EGG: negative", 1),
            ("the recovered state: law 11 broken by cart X", 11),
            ("a law is a law 9", 9),
            ("index out of bounds", 0),
        ] {
            assert_eq!(Broken::told(text.to_owned(), 0).law, law, "{text}");
        }
    }
}
