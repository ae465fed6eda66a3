//! A payment as its provider sees it: what each call may make of it, and what is answered then.
//!
//! Whatever the saga tests lose, double or delay, the provider itself keeps what
//! [`crate::payment::PaymentProvider`] promises: one payment a key, and an end that stays the end.

use super::*;

/// The provider's name for the order's own payment.
pub(super) const OWN: &str = "ch";

/// Where the payment stands at its provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Payment {
    /// Nobody asked for it yet.
    Unseen,
    /// Taken up, its result not known to the provider itself.
    Open,
    ActionRequired,
    Authorized,
    Captured,
    Declined,
    /// Cancelled, by us or because the authorization ran out; also where we cancelled what was not seen yet.
    Cancelled,
}

/// What is asked of the provider about the payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Call {
    Charge,
    LookUp,
    Confirm,
    Void,
    Capture,
}

impl Call {
    /// The call that an obligation makes, if it is one about the order's own payment.
    pub(super) fn of(obligation: &OrderObligation) -> Option<Self> {
        match obligation {
            OrderObligation::Charge(_) => Some(Self::Charge),
            OrderObligation::LookUp { .. } => Some(Self::LookUp),
            OrderObligation::Confirm { .. } => Some(Self::Confirm),
            OrderObligation::Void { .. } => Some(Self::Void),
            OrderObligation::Capture { .. } => Some(Self::Capture),
            OrderObligation::HoldUnits(_)
            | OrderObligation::AwaitProvider { .. }
            | OrderObligation::ReturnStray { .. }
            | OrderObligation::SellUnits(_)
            | OrderObligation::FreeUnits(_)
            | OrderObligation::TellCart { .. }
            | OrderObligation::Refund { .. }
            | OrderObligation::Restock { .. } => None,
        }
    }

    /// What is said where no answer came.
    pub(super) fn unheard(self) -> OrderCommand {
        match self {
            Self::Charge | Self::LookUp | Self::Confirm => {
                OrderCommand::ChargeAnswered(ChargeOutcome::Unknown)
            }
            Self::Void => OrderCommand::VoidAnswered(VoidOutcome::Unknown),
            Self::Capture => OrderCommand::CaptureAnswered(CaptureOutcome::Unknown),
        }
    }
}

impl Payment {
    /// All that this call may make of it.
    pub(super) fn outcomes(self, call: Call) -> &'static [Self] {
        match (call, self) {
            (Call::Charge | Call::LookUp, Self::Unseen) | (Call::LookUp, Self::Open) => {
                &[Self::Captured, Self::Authorized, Self::Declined, Self::ActionRequired, Self::Open]
            }
            (Call::Confirm, Self::ActionRequired) => {
                &[Self::Captured, Self::Authorized, Self::Declined, Self::ActionRequired, Self::Open]
            }
            (Call::Void, Self::Open) => &[Self::Cancelled, Self::Captured],
            (Call::Void, Self::Unseen | Self::ActionRequired | Self::Authorized) => &[Self::Cancelled],
            (Call::Capture, Self::Authorized) => &[Self::Captured, Self::Cancelled],
            (Call::Charge, Self::Open) | (Call::Confirm | Call::Capture, Self::Unseen | Self::Open) => {
                self.alone()
            }
            (Call::Charge | Call::LookUp | Call::Capture, Self::ActionRequired)
            | (Call::Charge | Call::LookUp | Call::Confirm, Self::Authorized)
            | (_, Self::Captured | Self::Declined | Self::Cancelled) => self.alone(),
        }
    }

    fn alone(self) -> &'static [Self] {
        match self {
            Self::Unseen => &[Self::Unseen],
            Self::Open => &[Self::Open],
            Self::ActionRequired => &[Self::ActionRequired],
            Self::Authorized => &[Self::Authorized],
            Self::Captured => &[Self::Captured],
            Self::Declined => &[Self::Declined],
            Self::Cancelled => &[Self::Cancelled],
        }
    }

    /// What may become of it though nobody asks: the shopper acts at the bank, or an authorization runs out.
    pub(super) fn drifts(self) -> &'static [Self] {
        match self {
            Self::Open | Self::ActionRequired => &[Self::Captured, Self::Authorized, Self::Declined],
            Self::Authorized => &[Self::Cancelled],
            Self::Unseen | Self::Captured | Self::Declined | Self::Cancelled => &[],
        }
    }

    /// What the provider answers to a call that left the payment so.
    pub(super) fn answer(self, call: Call) -> OrderCommand {
        let reference = || OWN.to_owned();
        match call {
            Call::Charge | Call::LookUp | Call::Confirm => OrderCommand::ChargeAnswered(match self {
                Self::Unseen | Self::Open => ChargeOutcome::Unknown,
                Self::ActionRequired => ChargeOutcome::ActionRequired {
                    reference: reference(),
                    action: NextAction::ClientSecret("s".into()),
                },
                Self::Authorized => ChargeOutcome::Authorized { reference: reference() },
                Self::Captured => ChargeOutcome::Captured { reference: reference() },
                Self::Declined | Self::Cancelled => {
                    ChargeOutcome::Declined { reason: "no".into(), retryable: true }
                }
            }),
            Call::Void => OrderCommand::VoidAnswered(match self {
                Self::Captured => VoidOutcome::AlreadyCaptured { reference: reference() },
                Self::Declined | Self::Cancelled => VoidOutcome::Voided,
                Self::Unseen | Self::Open | Self::ActionRequired | Self::Authorized => VoidOutcome::Unknown,
            }),
            Call::Capture => OrderCommand::CaptureAnswered(match self {
                Self::Captured => CaptureOutcome::Captured,
                Self::Declined | Self::Cancelled => CaptureOutcome::Lost { reason: "no".into() },
                Self::Unseen | Self::Open | Self::ActionRequired | Self::Authorized => {
                    CaptureOutcome::Unknown
                }
            }),
        }
    }

    /// How the provider's notices call it.
    pub(super) fn standing(self) -> Option<Standing> {
        match self {
            Self::Unseen => None,
            Self::Open | Self::ActionRequired => Some(Standing::Open),
            Self::Authorized => Some(Standing::Authorized),
            Self::Captured => Some(Standing::Captured),
            Self::Declined | Self::Cancelled => Some(Standing::Cancelled),
        }
    }

    /// Definitely never ours.
    pub(super) fn is_dead(self) -> bool {
        match self {
            Self::Declined | Self::Cancelled => true,
            Self::Unseen | Self::Open | Self::ActionRequired | Self::Authorized | Self::Captured => false,
        }
    }
}
