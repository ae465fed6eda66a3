//! The engine's answers as samples: what the no-op says, so that both send bodies of one size.
//!
//! When the engine takes part, its own answers are taken before the first turn; else the committed ones serve.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// One body of each kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answers {
    /// 201 to a reservation.
    pub(crate) reservation: String,
    /// 409 where nothing is left.
    pub(crate) refusal: String,
    /// 200 to a read of an availability.
    pub(crate) availability: String,
    /// 200 to a batch.
    pub(crate) batch: String,
    /// 201 to a new cart.
    pub(crate) cart: String,
    /// 200 to a line added.
    pub(crate) lines: String,
    /// 201 to a checkout, and 200 to a read of the order.
    pub(crate) order: String,
}

impl Answers {
    /// The committed samples, for batches of `batch`.
    pub(crate) fn committed(batch: usize) -> Self {
        let reservation = include_str!("../answers/reservation.json").trim();
        let one = format!(r#"{{"status":201,"reservation":{reservation}}}"#);
        Self {
            reservation: reservation.to_owned(),
            refusal: include_str!("../answers/refusal.json").trim().to_owned(),
            availability: include_str!("../answers/availability.json").trim().to_owned(),
            batch: format!(r#"{{"results":[{}]}}"#, vec![one; batch].join(",")),
            cart: include_str!("../answers/cart.json").trim().to_owned(),
            lines: include_str!("../answers/lines.json").trim().to_owned(),
            order: include_str!("../answers/order.json").trim().to_owned(),
        }
    }

    /// The samples by the names of their files.
    fn named(&mut self) -> [(&'static str, &mut String); 7] {
        [
            ("reservation", &mut self.reservation),
            ("refusal", &mut self.refusal),
            ("availability", &mut self.availability),
            ("batch", &mut self.batch),
            ("cart", &mut self.cart),
            ("lines", &mut self.lines),
            ("order", &mut self.order),
        ]
    }

    /// Writes them for the no-op's process.
    pub(crate) fn write(&mut self, directory: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(directory)?;
        for (name, text) in self.named() {
            fs::write(directory.join(name).with_extension("json"), text)?;
        }
        Ok(())
    }

    /// Reads what [`Self::write`] wrote.
    pub(crate) fn read(directory: &Path) -> anyhow::Result<Self> {
        let mut answers = Self::committed(1);
        for (name, text) in answers.named() {
            let path = directory.join(name).with_extension("json");
            *text = fs::read_to_string(&path).with_context(|| format!("{} is missing", path.display()))?;
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_what_the_generator_waits_for() {
        let answers = Answers::committed(3);
        assert_eq!(answers.batch.matches(r#""status":201"#).count(), 3);
        assert!(answers.refusal.contains(r#""code":"insufficient_stock""#));
        for (name, text) in answers.clone().named() {
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{name}: {text}");
        }
        let directory = tempfile::tempdir().unwrap();
        answers.clone().write(directory.path()).unwrap();
        assert_eq!(Answers::read(directory.path()).unwrap(), answers);
    }
}
