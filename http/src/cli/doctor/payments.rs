//! The doctor looks at payment providers: one cheap call to each, and what can be seen without any.

use std::sync::Arc;
use std::time::Duration;

use doorbuster_engine::payment::{Checkup, CheckupStanding, PaymentProvider};

use super::{Check, Finding};
use crate::cli::payments::PaymentArguments;
use crate::cli::{Failure, database};

/// How long a provider may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// A clock that differs by more is worth mending.
const SKEW_WARNING_S: i64 = 30;

/// From here on webhooks are refused as too old or of the future: Stripe's are believed for five minutes.
const SKEW_BAD_S: i64 = 240;

/// Looks at each provider that `serve` would be given.
pub(super) fn look(arguments: &PaymentArguments) -> Result<Vec<Check>, Failure> {
    let providers = match arguments.providers(false) {
        Ok(providers) => providers,
        Err(refused) => return Ok(vec![Check::new("payments", Finding::Bad, refused.message, "as said")]),
    };
    let mut checks = Vec::new();
    for provider in providers.into_iter().filter(|provider| provider.is_remote()) {
        let checkup = database::block_on(async { Ok(ask(&provider).await) })?;
        let now_s = jiff::Timestamp::now().as_second();
        checks.extend(judge(provider.name(), provider.calls_per_second_max(), &checkup, now_s));
    }
    Ok(checks)
}

async fn ask(provider: &Arc<dyn PaymentProvider>) -> Checkup {
    tokio::time::timeout(PATIENCE, provider.check_up()).await.unwrap_or_else(|_| {
        let why = format!("no answer within {} s", PATIENCE.as_secs());
        Checkup { standing: CheckupStanding::Unanswered(why), clock_s: None, proves_notices: true }
    })
}

/// What a checkup comes to, where this machine's clock says `now_s`.
fn judge(name: &'static str, pace: Option<u32>, checkup: &Checkup, now_s: i64) -> Vec<Check> {
    let pace =
        pace.map_or_else(|| "no pace".to_owned(), |calls| format!("{calls} requests a second at most"));
    let mut checks = vec![match &checkup.standing {
        CheckupStanding::Accepted => {
            Check::new(name, Finding::Good, format!("it answers, and takes our credentials; {pace}"), "")
        }
        CheckupStanding::Refused(why) => {
            Check::new(name, Finding::Bad, why.as_str(), "as said; no order can be paid by it before")
        }
        CheckupStanding::Unanswered(why) => Check::new(
            name,
            Finding::Warning,
            why.as_str(),
            "see whether it has an outage, and that this machine reaches it; orders wait for it as --payment-defer-s and \
             --payment-fallback say",
        ),
    }];
    if !checkup.proves_notices {
        checks.push(Check::new(
            name,
            Finding::Warning,
            "no webhook can be proved, so all are refused",
            "configure the webhook (docs/payments.md, set-up): without it a shopper who leaves after paying is found by the \
             comparison of books only",
        ));
    }
    if let Some(clock_s) = checkup.clock_s {
        let ahead_s = now_s.saturating_sub(clock_s);
        let finding = match ahead_s.saturating_abs() {
            SKEW_BAD_S.. => Finding::Bad,
            SKEW_WARNING_S.. => Finding::Warning,
            _ => Finding::Good,
        };
        if finding != Finding::Good {
            let word = if ahead_s > 0 { "ahead of" } else { "behind" };
            let seen =
                format!("this machine's clock is {} s {word} the provider's", ahead_s.saturating_abs());
            let remedy = "set the clock (e.g. with chrony): webhooks that seem minutes old are refused";
            checks.push(Check::new(name, finding, seen, remedy));
        }
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found of a checkup, worst last as it comes.
    fn found(standing: CheckupStanding, clock_s: Option<i64>, proves_notices: bool) -> Vec<Finding> {
        let checkup = Checkup { standing, clock_s, proves_notices };
        let checks = judge("stripe", Some(80), &checkup, 10_000);
        for check in &checks {
            assert_eq!(check.remedy.is_empty(), check.finding == Finding::Good, "{check:?}");
        }
        checks.iter().map(|check| check.finding).collect()
    }

    #[test]
    fn a_provider_is_judged_by_what_it_says() {
        let accepted = || CheckupStanding::Accepted;
        let why = || "so".to_owned();
        assert_eq!(found(accepted(), Some(10_000), true), [Finding::Good]);
        assert_eq!(found(accepted(), None, true), [Finding::Good]);
        assert_eq!(found(accepted(), Some(9_971), true), [Finding::Good]);
        assert_eq!(found(accepted(), Some(9_970), true), [Finding::Good, Finding::Warning]);
        assert_eq!(found(accepted(), Some(10_030), true), [Finding::Good, Finding::Warning]);
        assert_eq!(found(accepted(), Some(10_240), true), [Finding::Good, Finding::Bad]);
        assert_eq!(found(accepted(), Some(10_000), false), [Finding::Good, Finding::Warning]);
        assert_eq!(found(CheckupStanding::Refused(why()), None, true), [Finding::Bad]);
        assert_eq!(found(CheckupStanding::Unanswered(why()), None, true), [Finding::Warning]);
    }
}
