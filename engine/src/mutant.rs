//! Seeded bugs, for the simulator alone: each must be caught, or the proof has a hole.
//!
//! Without the feature `mutants`, which no release has, [`active`] is `false` for the compiler, and every site it guards
//! vanishes. With it, one mutant at a time is switched on for this thread by `set`. A site is a line or two in the real
//! code; a new mutant is one row here and one site there.

/// Lists the mutants once: what it does wrong, name, the law it breaks first, and laws by which it may be seen besides.
macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident breaks $law:literal $(or $other:literal)*,)+) => {
        /// A seeded bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Mutant {
            /// All of them, in the order of this list.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name, as the command line and the reports spell it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// The law it breaks first.
            pub fn law(self) -> u8 {
                match self {
                    $(Self::$name => $law,)+
                }
            }

            /// The laws by which it may be seen, the first one first. By any other law it was seen by accident.
            pub fn laws(self) -> &'static [u8] {
                match self {
                    $(Self::$name => &[$law $(, $other)*],)+
                }
            }

            /// What it does wrong.
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

mutants! {
    /// Tells workers that a batch is durable once it is written, before it is synced.
    AcknowledgeBeforeSync breaks 3,
    /// Never syncs the journal.
    SkipSync breaks 3,
    /// Reads frames without comparing their checksum.
    SkipFrameChecksum breaks 9,
    /// Reads frames that do not follow from the frame before.
    AcceptBrokenChain breaks 9,
    /// Takes damage in the middle of the journal for a torn tail.
    CutDamageSilently breaks 9,
    /// Recovers from the checkpoint and leaves the journal's tail unread.
    ReplayWithoutTail breaks 3,
    /// Applies records that a checkpoint row reflects already.
    ReplayTwice breaks 10 or 1 or 2 or 3,
    /// Writes a checkpoint's mark before its rows are there.
    MarkBeforeRows breaks 10 or 2 or 3 or 5,
    /// Hands states to the checkpoint before their events are durable.
    CheckpointAheadOfJournal breaks 10 or 3,
    /// Archives segments that a recovery still needs.
    ArchiveTooEarly breaks 9,
    /// Lets old bytes of a reused segment file pass for new frames: they break the chain, or take room that is there.
    StaleSegmentFrames breaks 9 or 3,
    /// Gives two records of a partition one sequence.
    ReuseSequence breaks 9,
    /// Gives the units of a released reservation back twice.
    ReleaseTwice breaks 1 or 3 or 10,
    /// Forgets to arm the timer of a reservation.
    ForgetTimer breaks 6,
    /// Lets a reservation that was extended expire at its first deadline.
    ExpireEarly breaks 2,
    /// Sells a reservation at its deadline, which is exclusive.
    CommitExpired breaks 2,
    /// At the pin's cap gives units back without asking the provider.
    ExpirePinned breaks 8,
    /// Promises one unit more than there is.
    OversellByOne breaks 1,
    /// Drops the answers of an entity when it leaves memory.
    ForgetIdempotencyAtPassivation breaks 5,
    /// Gives the first answer also to a request with another body.
    AnswerOtherBody breaks 5,
    /// Forgets the body hash of a request when its answer is remembered.
    ForgetFingerprint breaks 5,
    /// Takes units that a saga may give back for gone.
    DropTentative breaks 6,
    /// Leaves the first part of a refused reservation held.
    SkipCompensation breaks 6,
    /// Keeps a reservation open after its units were sold.
    SellTwice breaks 2,
    /// Calls the provider before the demand is durable.
    ChargeBeforeDurable breaks 7,
    /// Charges again, under another key, when the provider did not answer.
    ChargeAgainOnUnknown breaks 7,
    /// Refunds more than is left.
    RefundTooMuch breaks 7,
    /// Takes an unknown answer of the provider for a refusal and gives the units back.
    FreeOnUnknown breaks 8,
    /// Takes a charge that asks for the shopper for a charge that came.
    PlaceUnpaid breaks 7,
    /// Puts the units of a refund back on the shelf once for each time it is asked.
    RestockTwice breaks 1,
    /// Lets a reservation be extended beyond its longest life.
    ExtendForever breaks 11,
    /// Holds units again for a late copy of a step whose part has ended.
    ForgetEndedParts breaks 6,
    /// An order forgets to tell its cart.
    LoseCartTold breaks 6,
    /// Leaves a new segment's name to chance: its directory is not synced.
    SkipDirectorySync breaks 3,
    /// Builds on the last frame as it reads at a start, without writing it again: a failed sync may have left it off the disk.
    TrustCleanFrame breaks 3,
    /// Takes the checkpoint's rows for whole without comparing their digest.
    SkipDigest breaks 10 or 2 or 3 or 4,
    /// Tries a failed sync again and goes on.
    RetryFailedSync breaks 3,
    /// Decides commands though the journal has no room for them.
    IgnoreStorageFull breaks 3,
    /// Goes on with the state of an actor that panicked in its turn.
    ReuseStateAfterPanic breaks 10 or 5,
    /// Drops a batch when the writer's queue is crowded.
    DropBatchOnFull breaks 3,
    /// Lets business time follow the wall clock backwards.
    ClockBackwards breaks 9 or 2,
    /// Lets a message leave for another worker before the change that causes it is handed to the journal.
    EffectBeforeCause breaks 6,
    /// Drops the steps of sagas and timers that found no journal room, instead of trying them again.
    ForgetDeferred breaks 6,
    /// Shows a state to readers before it is durable.
    ReadAheadOfJournal breaks 3,
    /// Takes authorized money before the order's units are sold.
    CaptureBeforeSold breaks 7,
    /// Never takes the money that was authorized.
    LoseCapture breaks 7 or 6,
    /// Hands units to the carrier, or gives money back, before the money is ours.
    FulfilUnpaid breaks 6 or 7,
    /// Believes a provider that tells of a payment over another amount.
    BelieveAnyAmount breaks 7,
    /// Lets a copied notice have a second effect.
    DoubleNotice breaks 5,
    /// Keeps money that came for an order that does not want it.
    ForgetStray breaks 7,
    /// Asks the provider about an order whose time to wait for it is over.
    ChargeDeferred breaks 8,
    /// Lets the last who came to wait for the provider go first.
    ServeLastFirst breaks 8,
    /// Asks a provider as often as it likes.
    IgnorePace breaks 11,
    /// Answers a request that finds nothing to change without recording that it did.
    AnswerUnrecorded breaks 3 or 5,
}

#[cfg(feature = "mutants")]
mod switched {
    use std::cell::Cell;

    use super::Mutant;

    std::thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this thread's engine has this bug.
    pub fn active(mutant: Mutant) -> bool {
        ACTIVE.get() == Some(mutant)
    }

    /// Gives this thread's engine a bug, or takes it away.
    pub fn set(mutant: Option<Mutant>) {
        ACTIVE.set(mutant);
    }
}

#[cfg(feature = "mutants")]
pub use switched::{active, set};

/// Whether this thread's engine has this bug: never, in a build without the feature `mutants`.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[allow(clippy::inline_always)] // a site must cost nothing
pub const fn active(_: Mutant) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_names_a_law_and_says_what_it_breaks() {
        for mutant in Mutant::ALL {
            assert!((1..=11).contains(&mutant.law()), "{}", mutant.name());
            assert!(mutant.what().ends_with('.'), "{}", mutant.name());
        }
    }

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn a_build_without_the_feature_has_no_mutant() {
        assert!(Mutant::ALL.iter().all(|mutant| !active(*mutant)));
    }
}
