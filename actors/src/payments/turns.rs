//! One call's turns: each of its requests takes a place in the provider's pace, and its deadline stands still meanwhile.
//!
//! The desk takes the place of a call's first request before the call is made at all; some calls need more requests than
//! one, and only their door knows which. Laws: (1) no request is sent without a place; (2) a wait for a place is not the
//! provider's silence: it counts neither against the call nor for the breaker. Start at [`Turns::within`].

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use doorbuster_engine::payment::{Answering, PaymentProvider, Turnstile};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::desk::Desk;

/// See the module's header. Clones are of the same call.
#[derive(Clone)]
pub(crate) struct Turns {
    desk: Arc<Desk>,
    /// Longest wait for a place; `None`: however long it takes.
    patience: Option<Duration>,
    call: Arc<Mutex<Call>>,
}

/// How a call stands.
struct Call {
    /// The place that the desk took for it, until its first request uses it.
    has_place: bool,
    /// Requests that wait for their places; a list may have several at once.
    waiting: u32,
    /// Since when any waits.
    since: Instant,
    /// How long any waited before that.
    waited: Duration,
}

impl Turns {
    /// Of a call whose first request has its place already.
    pub(crate) fn of_placed(desk: &Arc<Desk>) -> Self {
        Self::new(desk, true, None)
    }

    /// Of a call from outside a sale: whoever asks for more than this much patience is told «not now».
    pub(crate) fn of_patient(desk: &Arc<Desk>, patience: Duration) -> Self {
        Self::new(desk, false, Some(patience))
    }

    fn new(desk: &Arc<Desk>, has_place: bool, patience: Option<Duration>) -> Self {
        let call = Call { has_place, waiting: 0, since: Instant::now(), waited: Duration::ZERO };
        Self { desk: Arc::clone(desk), patience, call: Arc::new(Mutex::new(call)) }
    }

    /// The provider, whose requests ask here.
    pub(crate) fn provider(&self) -> Arc<dyn PaymentProvider> {
        let provider = self.desk.provider();
        provider.paced(Arc::new(self.clone())).unwrap_or_else(|| Arc::clone(provider))
    }

    /// The call's answer, unless it takes longer than the deadline, waits for places left out.
    pub(crate) async fn within<T>(&self, deadline: Duration, mut call: Answering<T>) -> Option<T> {
        let began = Instant::now();
        let mut timer = pin!(tokio::time::sleep(deadline));
        poll_fn(|context| {
            if let Poll::Ready(answer) = call.as_mut().poll(context) {
                return Poll::Ready(Some(answer));
            }
            let allowed = {
                let state = self.call.lock();
                if state.waiting > 0 {
                    // Whoever waits is a part of the call, and wakes it when its turn comes.
                    return Poll::Pending;
                }
                deadline.saturating_add(state.waited)
            };
            if let Some(until) = began.checked_add(allowed)
                && until != timer.deadline()
            {
                timer.as_mut().reset(until);
            }
            timer.as_mut().poll(context).map(|()| None)
        })
        .await
    }

    /// How long the call has waited for places in all.
    pub(crate) fn waited(&self) -> Duration {
        self.call.lock().waited
    }
}

impl Turnstile for Turns {
    fn turn(&self) -> Answering<bool> {
        let turns = self.clone();
        Box::pin(async move {
            if std::mem::take(&mut turns.call.lock().has_place) {
                return true;
            }
            let _waits = Waits::begin(&turns.call);
            turns.desk.place_further(turns.patience).await
        })
    }
}

/// A request that waits for its place; the call's time stands still for as long as this lives.
struct Waits<'a>(&'a Mutex<Call>);

impl<'a> Waits<'a> {
    fn begin(call: &'a Mutex<Call>) -> Self {
        let mut state = call.lock();
        if state.waiting == 0 {
            state.since = Instant::now();
        }
        state.waiting = state.waiting.saturating_add(1);
        drop(state);
        Self(call)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.waiting = state.waiting.saturating_sub(1);
        if state.waiting == 0 {
            state.waited = state.waited.saturating_add(state.since.elapsed());
        }
    }
}

#[cfg(test)]
mod tests;
