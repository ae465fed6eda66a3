//! The register of rare states: each must be reached by some seed, or the simulator proves less than it says.
//!
//! `sometimes!("name")` counts a state where it is reached; [`NAMES`] lists all of them. A name that is not listed panics at
//! once, and a listed one that no seed of a full run reached fails the run.

use std::cell::RefCell;

/// Every rare state that the seeds must reach between them.
pub const NAMES: &[&str] = &[
    "a torn tail was cut",
    "an unsynced frame was lost",
    "an unsynced frame survived",
    "the process was killed and the disk kept all",
    "the power failed during a start",
    "the power failed during an operation of the disk",
    "unsynced writes survived out of order",
    "an unsynced bit was flipped",
    "a checkpoint was interrupted",
    "a replay skipped what rows reflect",
    "a replay began at a mark",
    "a damaged checkpoint was set aside",
    "an old frame was damaged and the start refused",
    "a sync failed and the engine stopped",
    "a full disk refused",
    "room came back and work went on",
    "the last room was used up",
    "an ending found no room",
    "a slow disk kept answers waiting",
    "the clock jumped forward",
    "the clock jumped back",
    "a charge was unknown, then captured",
    "a charge was unknown, then declined",
    "a void found the charge captured",
    "the pin's cap cancelled a charge",
    "the shopper acted and paid",
    "a confirmation found its order placed",
    "a confirmation found the payment open",
    "a cancellation found its order off",
    "a charge asked for by a crashed life was captured",
    "a refund was refused by the provider",
    "a twin joined",
    "an answer was given again",
    "an answer was given again after a crash",
    "a key was refused for another body",
    "a refused key was tried again and granted",
    "a time-out was settled by a retry",
    "an actor panicked",
    "an actor panicked during a saga",
    "an actor panicked after it recorded a turn",
    "an actor was quarantined",
    "a reservation expired",
    "an extended reservation expired at its new end",
    "a commit came one millisecond before the deadline",
    "a commit came at the deadline and was refused",
    "a multi-SKU reservation was granted",
    "a multi-SKU reservation was refused after a part was held",
    "a late copy of a hold was granted and given back",
    "a partial reservation got less",
    "a SKU was sold out",
    "a SKU was oversold within its limit",
    "a cart was loaded cold",
    "an order was loaded cold",
    "a coordinator was loaded cold",
    "a checkout was refused for want of stock",
    "an order was cancelled after payment",
    "a refund restocked units",
    "an order was fulfilled",
    "an order was completed after the return window",
    "a segment was archived",
    "a start did without the archive",
    "a start found an unfinished saga",
    "a payment was authorized first",
    "authorized money was captured",
    "a capture was done and nobody told",
    "an authorization ran out before the capture",
    "authorized money was let go",
    "the provider was away for long",
    "an order waited for its provider",
    "an order that waited was let through",
    "an order that waited was called off",
    "an order waited in vain",
    "a checkout was refused because the provider was away",
    "an order could not tell yet whose money came",
    "a notice came twice",
    "a notice came days late",
    "a notice made an order ask",
    "a notice told of money before anybody asked",
    "an order was paid by a payment that it had not asked for",
    "unwanted money was sent back",
    "an unwanted payment was cancelled",
    "unwanted money was kept by the provider",
];

thread_local! {
    static REACHED: RefCell<Vec<u64>> = RefCell::new(vec![0; NAMES.len()]);
}

/// Counts a rare state.
#[macro_export]
macro_rules! sometimes {
    ($name:literal) => {
        $crate::sometimes::reach($name)
    };
}

/// Counts `name`, which must be listed.
pub fn reach(name: &str) {
    let at = NAMES.iter().position(|known| *known == name);
    let at = at.unwrap_or_else(|| panic!("`{name}` is not in sometimes::NAMES"));
    REACHED.with_borrow_mut(|reached| reached[at] += 1);
}

/// Takes this thread's counts, in the order of [`NAMES`], and begins anew.
pub fn take() -> Vec<u64> {
    REACHED.with_borrow_mut(|reached| std::mem::replace(reached, vec![0; NAMES.len()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reached_state_is_counted_once_a_reach() {
        take();
        sometimes!("an actor panicked");
        sometimes!("an actor panicked");
        let at = NAMES.iter().position(|name| *name == "an actor panicked").unwrap();
        assert_eq!(take()[at], 2);
        assert_eq!(take().iter().sum::<u64>(), 0);
    }

    #[test]
    fn names_are_listed_once() {
        for (at, name) in NAMES.iter().enumerate() {
            assert_eq!(NAMES.iter().position(|known| known == name), Some(at), "{name}");
        }
    }
}
