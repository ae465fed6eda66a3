//! The console's thread: looks once a second while somebody watches, and tells all of them the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use doorbuster_actors::{Engine, Readiness};
use tokio::sync::mpsc;

use super::look::Looking;
use super::{Facts, Traffic, Wish};
use crate::live::{Ending, Told};
use crate::reply::json;

/// Time between two looks.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Looks that go on after the last watcher has left: a page that is loaded anew finds its figures warm.
const LINGER_LOOKS: u32 = 5;

/// How long a watcher may not take what waits for it.
const STALLED_MAX: Duration = Duration::from_secs(10);

/// A watcher.
struct Client {
    watcher: u64,
    sender: mpsc::Sender<Arc<Told>>,
    ending: Arc<Ending>,
    stalled_since: Option<Instant>,
}

/// A watch that goes on.
struct Going {
    looking: Looking,
    due: Instant,
    latest: Option<Arc<Told>>,
    deserted: u32,
}

/// See the module's header.
pub(super) struct Watch {
    engine: Engine,
    facts: Facts,
    traffic: Arc<Traffic>,
    wishes: Receiver<Wish>,
    clients: Vec<Client>,
    going: Option<Going>,
}

impl Watch {
    pub(super) fn new(engine: Engine, facts: Facts, traffic: Arc<Traffic>, wishes: Receiver<Wish>) -> Self {
        Self { engine, facts, traffic, wishes, clients: Vec::new(), going: None }
    }

    /// Works until nobody can wish anything any more.
    pub(super) fn run(mut self) {
        loop {
            let wish = match &self.going {
                Some(going) => self.wishes.recv_deadline(going.due),
                None => self.wishes.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match wish {
                Ok(wish) => self.grant(wish),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Open { watcher, sender, ending } => {
                if self.going.is_none() {
                    match Looking::begin(&self.engine, self.facts, &self.traffic) {
                        Ok(looking) => {
                            let due = Instant::now() + INTERVAL;
                            self.going = Some(Going { looking, due, latest: None, deserted: 0 });
                        }
                        Err(error) => {
                            tracing::error!(%error, "no live console: its runtime cannot be made; look at `ulimit -a`");
                            self.traffic.watch(false);
                            ending.tell("lost");
                            return;
                        }
                    }
                }
                if let Some(latest) = self.going.as_ref().and_then(|going| going.latest.as_ref()) {
                    let _ = sender.try_send(Arc::clone(latest));
                }
                self.clients.push(Client { watcher, sender, ending, stalled_since: None });
            }
            Wish::Close(watcher) => self.clients.retain(|client| client.watcher != watcher),
        }
    }

    fn look(&mut self) {
        if self.engine.readiness() == Readiness::Draining {
            for client in self.clients.drain(..) {
                client.ending.tell("draining");
            }
        }
        self.clients.retain(|client| !client.sender.is_closed());
        let Some(going) = &mut self.going else { return };
        going.deserted = if self.clients.is_empty() { going.deserted + 1 } else { 0 };
        if going.deserted > LINGER_LOOKS || self.engine.readiness() == Readiness::Draining {
            self.traffic.watch(false);
            self.going = None;
            return;
        }
        let snapshot = going.looking.look(&self.engine, self.clients.len());
        let told = Told::new("snapshot", None, json(&snapshot));
        going.latest = Some(Arc::clone(&told));
        let now = Instant::now();
        going.due = (going.due + INTERVAL).max(now);
        self.clients.retain_mut(|client| {
            if client.sender.try_send(Arc::clone(&told)).is_ok() {
                client.stalled_since = None;
                return true;
            }
            // It gets the next one; whoever never reads is let go.
            let since = *client.stalled_since.get_or_insert(now);
            let keep = now.duration_since(since) < STALLED_MAX;
            if !keep {
                client.ending.tell("slow_reader");
            }
            keep
        });
    }
}
