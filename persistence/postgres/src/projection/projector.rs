//! The thread that projects a live journal, whatever becomes of Postgres meanwhile.
//!
//! It owns its runtime and its session; nobody waits for it, and nothing queues up for it: what is not applied yet lies in the
//! journal. Away, killed, paused, read-only, full or slow, Postgres is tried again with growing pauses; what only a person can
//! mend is tried again every half minute, so that mending it is enough. Start at [`Projector::start`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::tail::JournalTail;

use super::applier::{Applied, Applier};
use super::error::ProjectionError;
use super::source::Source;
use crate::metrics::Meters;
use crate::migrations;
use crate::schema;
use crate::settings::DatabaseSettings;

/// Least time between the beginnings of two batches: what happens meanwhile to one row is written once.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);

/// How often the journal is looked at while nothing happens.
const IDLE: Duration = Duration::from_millis(25);

/// How often the tables are looked at while there is nothing to apply: an older copy of them may have been put in their place
/// in a quiet hour, and no event would show it.
const LOOK: Duration = Duration::from_secs(5);

/// How often lag is told.
const LAG_INTERVAL: Duration = Duration::from_millis(50);

/// First and longest pause after a fault that may pass.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Pause after a fault that needs a person.
const PAUSE_PERSON: Duration = Duration::from_secs(30);

/// How often the same trouble is logged.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// How the projection stands, for whoever asks.
#[derive(Debug, Default)]
pub struct ProjectionStatus {
    applied: AtomicU64,
    /// When the tables were last seen to reflect all that was durable, in milliseconds since the Unix epoch; 0: never.
    caught_up_ms: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl ProjectionStatus {
    /// The last frame that the tables are known to reflect; 0 before the first look at them.
    pub fn frame(&self) -> FrameNumber {
        FrameNumber(self.applied.load(Ordering::Acquire))
    }

    /// How long ago the tables were last seen to reflect all that was durable; `None`: not since the start.
    pub fn lag(&self) -> Option<Duration> {
        match self.caught_up_ms.load(Ordering::Acquire) {
            0 => None,
            at_ms => Some(Duration::from_millis(now_ms().saturating_sub(at_ms))),
        }
    }

    /// What keeps the projection from going on, where something does.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// A running projector; it ends with [`Projector::stop`].
#[derive(Debug)]
pub struct Projector {
    status: Arc<ProjectionStatus>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Makes a tail that begins at this frame: each session reads from where its tables are.
pub type Follow = Box<dyn Fn(FrameNumber) -> JournalTail + Send>;

impl Projector {
    /// Starts the thread. With `migrates` it brings the schema up to date first; else it only looks whether it is.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub fn start(settings: DatabaseSettings, follow: Follow, migrates: bool) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let status = Arc::new(ProjectionStatus::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let work = Work {
            settings: settings.named("doorbuster projector"),
            follow,
            migrates,
            status: Arc::clone(&status),
            stopping: Arc::clone(&stopping),
            meters: Meters::new(),
        };
        let thread = std::thread::Builder::new()
            .name("projector".to_owned())
            .spawn(move || runtime.block_on(work.run()))?;
        Ok(Self { status, stopping, thread: Some(thread) })
    }

    /// How it stands.
    pub fn status(&self) -> Arc<ProjectionStatus> {
        Arc::clone(&self.status)
    }

    /// Applies what is durable by now, if that is done within `patience`, and ends. What is left is applied at the next start.
    pub fn stop(mut self, patience: Duration) {
        self.stopping.store(true, Ordering::Release);
        let began = Instant::now();
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() && began.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

struct Work {
    settings: DatabaseSettings,
    follow: Follow,
    migrates: bool,
    status: Arc<ProjectionStatus>,
    stopping: Arc<AtomicBool>,
    meters: Meters,
}

impl Work {
    async fn run(self) {
        // Beside the work, not between its steps: a step may hang for as long as its patience lasts.
        tokio::select! {
            () = self.work() => {}
            () = self.tell_lag() => {}
        }
    }

    async fn tell_lag(&self) {
        let began = now_ms();
        let tail = (self.follow)(FrameNumber::FIRST);
        loop {
            let behind = tail.durable_frame().0.saturating_sub(self.status.frame().0);
            let since = match self.status.caught_up_ms.load(Ordering::Acquire) {
                0 => began,
                at_ms => at_ms,
            };
            self.meters.stand(behind, if behind > 0 { now_ms().saturating_sub(since) } else { 0 });
            tokio::time::sleep(LAG_INTERVAL).await;
        }
    }

    async fn work(&self) {
        let mut pause = PAUSE_MIN;
        let mut logged: Option<(String, Instant)> = None;
        while !self.is_stopping() {
            let before = self.status.frame();
            let error = match self.session().await {
                Ok(()) => return,
                Err(error) => error,
            };
            self.meters.fault();
            let text = error.to_string();
            if logged.as_ref().is_none_or(|(known, at)| *known != text || at.elapsed() >= LOG_AGAIN) {
                tracing::warn!(place = self.settings.place(), "the projection waits: {text}");
                logged = Some((text.clone(), Instant::now()));
            }
            self.status.set_trouble(Some(text));
            if self.status.frame() > before {
                pause = PAUSE_MIN;
            }
            let rest = if error.needs_a_person() { PAUSE_PERSON } else { pause };
            self.rest(jittered(rest)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One session, until it breaks or the work is done.
    async fn session(&self) -> Result<(), ProjectionError> {
        let mut connection = self.settings.connect().await?;
        if self.migrates {
            migrations::migrate(&mut connection).await?;
        }
        let differences = migrations::check(&mut connection).await?;
        if !differences.is_empty() {
            let what = schema::tell(&differences);
            tracing::error!(
                place = self.settings.place(),
                "the schema was changed by hand: {what}; undo that"
            );
        }
        let source = Source::live((self.follow)(FrameNumber::FIRST));
        let mut projection = Applier::begin(connection, source).await?;
        tracing::info!(place = self.settings.place(), frame = projection.frame().0, "projecting");
        self.status.set_trouble(None);
        let mut looked_at = Instant::now();
        loop {
            let is_stopping = self.is_stopping();
            let began = Instant::now();
            let durable = projection.durable();
            let applied = projection.step().await?;
            if applied.is_some() {
                // A batch finds the tables where it expects them, or fails.
                looked_at = began;
            } else if looked_at.elapsed() >= LOOK && !is_stopping {
                projection.look().await?;
                looked_at = began;
            }
            self.tell(&projection, durable, applied, began.elapsed());
            match applied {
                None if is_stopping => return Ok(()),
                None => tokio::time::sleep(IDLE).await,
                // Far behind there is no pause: then the next batch is full as it is.
                Some(applied) if applied.frame >= durable && !is_stopping => {
                    tokio::time::sleep(BATCH_INTERVAL.saturating_sub(began.elapsed())).await;
                }
                Some(_) => {}
            }
        }
    }

    fn tell(&self, projection: &Applier, durable: FrameNumber, applied: Option<Applied>, took: Duration) {
        let frame = projection.frame();
        self.status.applied.store(frame.0, Ordering::Release);
        if frame >= durable {
            self.status.caught_up_ms.store(now_ms(), Ordering::Release);
        }
        if let Some(applied) = applied {
            self.meters.batch(applied.events, applied.rows, took);
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// A pause that ends early when the engine does.
    async fn rest(&self, rest: Duration) {
        let began = Instant::now();
        while began.elapsed() < rest && !self.is_stopping() {
            tokio::time::sleep(IDLE.min(rest)).await;
        }
    }
}

/// Half of `rest` to one and a half times: many engines that lost one Postgres do not come back together.
fn jittered(rest: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness there is no jitter; nothing else depends on it.
    let _ = getrandom::fill(&mut byte);
    rest.mul_f64(0.5 + f64::from(byte[0]) / 255.0)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
