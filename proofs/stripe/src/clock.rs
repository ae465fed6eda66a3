//! The stand-in's time: the machine's, or one that stands until a test moves it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// Where a standing clock begins: 2026-01-01T00:00:00Z.
const STANDING_START_MS: u64 = 1_767_225_600_000;

/// Milliseconds since the epoch, moved forward on request, never backward.
#[derive(Debug)]
pub(crate) struct Clock {
    start_ms: u64,
    /// `None` stands.
    running_since: Option<Instant>,
    advanced_ms: watch::Sender<u64>,
}

impl Clock {
    pub(crate) fn running() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        Self { start_ms, running_since: Some(Instant::now()), advanced_ms: watch::channel(0).0 }
    }

    pub(crate) fn standing() -> Self {
        Self { start_ms: STANDING_START_MS, running_since: None, advanced_ms: watch::channel(0).0 }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        let run =
            self.running_since.map_or(0, |since| u64::try_from(since.elapsed().as_millis()).unwrap_or(0));
        self.start_ms.saturating_add(run).saturating_add(*self.advanced_ms.borrow())
    }

    /// Moves time forward; whoever waits for what is due by then goes on.
    pub(crate) fn advance(&self, by_ms: u64) {
        self.advanced_ms.send_modify(|advanced| *advanced = advanced.saturating_add(by_ms));
    }

    /// Waits until it is `due_ms`: by the machine's time where this clock runs, for [`Self::advance`] in any case.
    pub(crate) async fn until(&self, due_ms: u64) {
        let mut moves = self.advanced_ms.subscribe();
        loop {
            let now_ms = self.now_ms();
            if now_ms >= due_ms {
                return;
            }
            let left = Duration::from_millis(due_ms - now_ms);
            let run_out = async {
                match self.running_since {
                    Some(_) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = run_out => {}
                _ = moves.changed() => {}
            }
        }
    }
}
