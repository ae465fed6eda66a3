//! Requests that came together and are heard of together: one caller, many verdicts, one waking.
//!
//! Each request gets a [`Share`]; the caller waits at [`Together::all_said`], for the last of them or its deadline. A share
//! that is dropped unsaid counts as ended: its actor panicked or was stopped with the request in hand, and what became of it
//! is unknown. A batch would else pay for a channel, a timer and a waking of each of its requests.

use std::sync::Arc;

use doorbuster_engine::answer::Refusal;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::types::Verdict;

/// See the module's header.
pub(crate) struct Together {
    state: Mutex<State>,
    all_said: Notify,
}

struct State {
    verdicts: Vec<Heard>,
    /// Shares that have not ended.
    open: usize,
}

/// What is known of one request.
enum Heard {
    /// Its share is out.
    Nothing,
    /// Its share is gone and said nothing.
    Lost,
    Verdict(Verdict),
}

impl Together {
    /// Of so many requests, with a share for each, in their order.
    pub(crate) fn of(count: usize) -> (Arc<Self>, impl Iterator<Item = Share>) {
        let verdicts = (0..count).map(|_| Heard::Nothing).collect();
        let state = Mutex::new(State { verdicts, open: count });
        let together = Arc::new(Self { state, all_said: Notify::new() });
        let shares = {
            let together = Arc::clone(&together);
            (0..count).map(move |at| Share { together: Arc::clone(&together), at, said: false })
        };
        (together, shares)
    }

    /// Waits until every share has ended, to `deadline` at most; then says what is known, in the order asked.
    pub(crate) async fn all_said(&self, deadline: Instant) -> Vec<Verdict> {
        // With all answered already nobody will call. A call between here and the wait is kept for it.
        let open = self.state.lock().open;
        if open > 0 {
            let _ = tokio::time::timeout_at(deadline, self.all_said.notified()).await;
        }
        let verdicts = std::mem::take(&mut self.state.lock().verdicts);
        verdicts
            .into_iter()
            .map(|heard| match heard {
                Heard::Verdict(verdict) => verdict,
                Heard::Lost => Err(Refusal::Recovering { retry_after_ms: 1_000 }),
                Heard::Nothing => Err(Refusal::DeadlineExceeded),
            })
            .collect()
    }

    fn ended(&self, at: usize, heard: Heard) {
        let mut state = self.state.lock();
        if let Some(place) = state.verdicts.get_mut(at) {
            *place = heard;
        }
        state.open = state.open.saturating_sub(1);
        let last = state.open == 0;
        drop(state);
        if last {
            self.all_said.notify_one();
        }
    }
}

/// One request's way to be heard.
pub(crate) struct Share {
    together: Arc<Together>,
    at: usize,
    said: bool,
}

impl Share {
    /// Says the verdict.
    pub(crate) fn say(mut self, verdict: Verdict) {
        self.said = true;
        self.together.ended(self.at, Heard::Verdict(verdict));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if !self.said {
            self.together.ended(self.at, Heard::Lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn told(verdicts: &[Verdict]) -> Vec<&'static str> {
        let name = |verdict: &Verdict| match verdict {
            Ok(_) => "answer",
            Err(Refusal::Draining) => "draining",
            Err(Refusal::Recovering { .. }) => "recovering",
            Err(Refusal::DeadlineExceeded) => "deadline exceeded",
            Err(_) => "another",
        };
        verdicts.iter().map(name).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_hears_its_own_verdict_and_the_last_one_ends_the_wait() {
        for (label, said, expected) in [
            ("all said, the last one first", vec![(1, true), (0, true)], vec!["draining", "draining"]),
            ("one dropped with its actor", vec![(0, true), (1, false)], vec!["draining", "recovering"]),
            ("all dropped", vec![(0, false), (1, false)], vec!["recovering", "recovering"]),
            ("one that nobody answers", vec![(1, true)], vec!["deadline exceeded", "draining"]),
        ] {
            let (together, shares) = Together::of(2);
            let mut shares: Vec<Option<Share>> = shares.map(Some).collect();
            let deadline = Instant::now() + Duration::from_secs(10);
            let waits = said.len() < 2;
            for (at, says) in said {
                let share = shares.get_mut(at).and_then(Option::take).unwrap();
                if says {
                    share.say(Err(Refusal::Draining));
                }
            }
            assert_eq!(told(&together.all_said(deadline).await), expected, "{label}");
            assert_eq!(Instant::now() >= deadline, waits, "{label}: waited to the deadline");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_there_before_the_next_is_asked_for_does_not_end_the_wait() {
        let (together, mut shares) = Together::of(2);
        shares.next().unwrap().say(Err(Refusal::Draining));
        let late = shares.next().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let said = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            late.say(Err(Refusal::Draining));
        };
        let (verdicts, ()) = tokio::join!(together.all_said(deadline), said);
        assert_eq!(told(&verdicts), ["draining", "draining"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_at_once_keeps_nobody_waiting() {
        let (together, mut shares) = Together::of(1);
        shares.next().unwrap().say(Err(Refusal::Draining));
        let began = Instant::now();
        let verdicts = together.all_said(began + Duration::from_secs(10)).await;
        assert_eq!((told(&verdicts), began.elapsed()), (vec!["draining"], Duration::ZERO));
    }
}
