//! Folding with a net: a journal that the machines cannot have written ends in a sentence, not in a crash.

use std::panic::{AssertUnwindSafe, catch_unwind};

use doorbuster_engine::event::EntryRef;
use doorbuster_engine::identity::Recorded;
use doorbuster_engine::invariants::Violation;
use doorbuster_engine::world::{Applied, World};

/// [`World::apply`], with a broken invariant told as a violation. `index` is the entity's, where it was looked up before.
/// The world is of no use after an error.
pub(crate) fn apply(
    world: &mut World,
    index: Option<usize>,
    entry: &EntryRef<'_>,
    recorded: Recorded,
) -> Result<Applied, Violation> {
    let fold = AssertUnwindSafe(|| match index {
        Some(index) => world.apply_at(index, &entry.event, recorded, entry.request),
        None => world.apply(entry.entity, &entry.event, recorded, entry.request),
    });
    catch_unwind(fold).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let seen = text.unwrap_or_else(|| "its machine refuses to fold the next event".to_owned());
        Err(Violation { law: law_named(&seen).unwrap_or(10), entity: entry.entity.to_string(), seen })
    })
}

/// The law a machine's assertion names: their texts begin with `law 2: …` or `law 1 broken by …`.
fn law_named(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("law ")?;
    let end = digits.find(|c: char| !c.is_ascii_digit())?;
    digits[..end].parse().ok()
}
