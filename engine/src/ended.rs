//! What may still be asked of a reservation that has ended: reads, and repeats of what ended it (law 2).

use crate::answer::{Answer, Refusal, ReservationRecord, ReservationState};

/// A command on an ended reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedAction {
    /// Sell the units.
    Commit,
    /// Give the units back.
    Release,
    /// Lengthen its life.
    Extend,
}

impl EndedAction {
    fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Release => "release",
            Self::Extend => "extend",
        }
    }
}

/// Answers a command on an ended reservation: the ending it already has, or why not.
pub fn decide(record: &ReservationRecord, action: EndedAction) -> Result<Answer, Refusal> {
    let refuse = |from: &str| {
        Err(Refusal::IllegalTransition {
            from: from.into(),
            action: action.name().into(),
            detail: format!("the reservation is already {from}"),
        })
    };
    match (record.state, action) {
        (ReservationState::Committed, EndedAction::Commit)
        | (ReservationState::Released, EndedAction::Release) => Ok(Answer::Reservation(record.clone())),
        (ReservationState::Expired, _) => Err(Refusal::ReservationExpired),
        (ReservationState::Committed, _) => refuse("committed"),
        (ReservationState::Released, _) => refuse("released"),
        (ReservationState::Held, _) => refuse("held"),
    }
}
