//! Looking into actors.

use std::time::Duration;

use doorbuster_engine::answer::{Missing, Refusal};
use doorbuster_engine::event::EntityKey;
use doorbuster_engine::identity::Timestamp;

use crate::engine::Engine;
use crate::stats::key_text;
use crate::types::{ActorDetail, ActorReport, ActorSort, Ticket};
use crate::worker::{Inbound, Survey};

/// How long a worker may take to list its actors.
const SURVEY_MAX: Duration = Duration::from_secs(2);

impl Engine {
    /// Running actors of a kind (or all), hottest first.
    pub async fn actors(
        &self,
        kind: Option<&'static str>,
        sort: ActorSort,
        limit: usize,
    ) -> Vec<ActorReport> {
        let survey = Survey { kind, sort, limit };
        let mut all = Vec::new();
        for worker in 0..self.shared.inboxes.len() {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            self.shared.tell(worker, Inbound::Survey(survey, sender));
            if let Ok(Ok(reports)) = tokio::time::timeout(SURVEY_MAX, receiver).await {
                all.extend(reports);
            }
        }
        all.sort_by(|a, b| {
            let hotter = match sort {
                ActorSort::Rate => b.rate.total_cmp(&a.rate),
                ActorSort::Depth => b.queue_depth.cmp(&a.queue_depth),
                ActorSort::Wait => b.wait_us.1.cmp(&a.wait_us.1),
                ActorSort::Messages => b.messages.cmp(&a.messages),
            };
            hotter.then_with(|| a.key.cmp(&b.key))
        });
        all.truncate(limit);
        all
    }

    /// One actor: figures, state, last messages. Looking wakes nobody.
    pub async fn actor(&self, entity: EntityKey) -> Result<ActorDetail, Refusal> {
        let named = entity.clone();
        let detail = self.query(entity, move |seen| {
            let seen = seen?;
            let report = seen.stats.map_or_else(|| asleep(&named), |stats| stats.report(&named));
            let recent = seen.stats.map(crate::stats::ActorStats::recent).unwrap_or_default();
            Some(ActorDetail {
                report,
                state: format!("{:#?}", seen.snapshot),
                recent,
                position: seen.position,
            })
        });
        detail.await?.ok_or(Refusal::NotFound(Missing::Actor))
    }

    /// Makes an actor's turn panic, to prove what happens then. Not reachable from outside the process.
    #[doc(hidden)]
    pub async fn poison(&self, sku: doorbuster_engine::identity::Sku) {
        let _ = self.query(EntityKey::Sku(sku), |seen| assert!(seen.is_none(), "poisoned on purpose")).await;
    }

    /// A ticket for a read: no key, ten seconds.
    pub(crate) fn reading_ticket(&self) -> Ticket {
        self.ticket("", None, "", "", b"", tokio::time::Instant::now() + Duration::from_secs(10))
    }
}

fn asleep(entity: &EntityKey) -> ActorReport {
    ActorReport {
        kind: entity.kind(),
        key: key_text(entity),
        queue_depth: 0,
        messages: 0,
        rate: 0.0,
        wait_us: (0, 0),
        service_us: (0, 0),
        last_activity: Timestamp(0),
        restarts: 0,
    }
}
