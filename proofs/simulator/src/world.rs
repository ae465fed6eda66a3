//! One history: the engine's lives one after another, each ended by a crash, until the last one, in which all is well and
//! all work must end.
//!
//! A life is one `current_thread` runtime whose time stands still while anybody can run. The writer, the checkpointer, the
//! clients and the mischief are tasks of it, and each of them may be the moment of the crash. Start at [`live`].

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorbuster_actors::{Engine, EngineOptions, Limits, Stepped, WhenDown};
use doorbuster_persistence::error::StartError;
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::Instant;

use crate::ask::Ask;
use crate::broken::Broken;
use crate::clients::{self, SKUS, definition, enter, sku};
use crate::common::{Clock, Common, Trace};
use crate::disk::Machine;
use crate::ending::everything;
use crate::host::SimulatedHost;
use crate::journal::{Files, Walker};
use crate::ledger::Ledger;
use crate::model::Model;
use crate::provider::{Provider, SharedCommon, lock};
use crate::random::Random;
use crate::{panics, postman, rows, sometimes};

/// Commands a history has at least.
pub const COMMANDS_MIN: u64 = 2_000;

/// Faults a history has at least.
pub const FAULTS_MIN: u64 = 10;

/// Every so many rounds of the checkpointer its rows are held against the model.
const ROWS_EVERY: u64 = 8;

/// Bytes of the simulated disk: room for a history's journal many times over.
const DISK_BYTES: u64 = 64 << 20;

/// Where the data directory lies on the simulated disk.
pub(crate) const ROOT: &str = "/data";

/// What a history came to.
#[derive(Debug)]
pub struct History {
    /// Its seed.
    pub seed: u64,
    /// Hash of everything that happened.
    pub hash: u64,
    /// Commands sent.
    pub commands: u64,
    /// Faults injected.
    pub faults: u64,
    /// Lives of the engine.
    pub lives: u64,
    /// Durable events.
    pub events: u64,
    /// How long it took by its own clock.
    pub virtual_ms: u64,
    /// The law it broke, if it did.
    pub broken: Option<Broken>,
    /// The last lines before the end, where a trace was wanted.
    pub lines: Vec<String>,
    /// Rare states reached, in the order of [`sometimes::NAMES`].
    pub reached: Vec<u64>,
}

/// How much of a history is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Telling {
    /// Nothing.
    #[default]
    Silent,
    /// The last lines are kept.
    Kept,
    /// Every line is printed.
    Printed,
}

/// A moment so many milliseconds from now.
pub fn deadline(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

/// What the disk shows of the journal: only what completed syncs guarantee.
pub(crate) struct Durable<'a>(pub(crate) &'a Machine);

impl Files for Durable<'_> {
    fn with(&self, path: &Path, see: &mut dyn FnMut(&[u8])) {
        self.0.with_synced_file(path, see);
    }

    fn list(&self, directory: &Path) -> Vec<PathBuf> {
        self.0.list_synced(directory)
    }
}

/// One life, as its tasks share it.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) common: SharedCommon,
    pub(crate) disk: Machine,
    pub(crate) engine: Engine,
    pub(crate) stepped: Rc<RefCell<Stepped>>,
    pub(crate) death: Rc<Notify>,
    /// Whether this is the last life, in which nothing goes wrong any more.
    pub(crate) last: bool,
}

/// Lives the history of a seed.
pub fn live(seed: u64, telling: Telling) -> History {
    panics::listen();
    sometimes::take();
    let mut random = Random::new(seed);
    let disk = Machine::new(random.fork(), DISK_BYTES);
    let common = Common {
        clock: Clock::default(),
        model: Model::default(),
        ledger: Ledger::new(random.fork()),
        trace: Trace {
            on: telling != Telling::Silent,
            print: telling == Telling::Printed,
            ..Trace::default()
        },
        broken: None,
        requests: Vec::new(),
        by_stamp: std::collections::HashMap::new(),
        shortages: Vec::new(),
        commands: 0,
        faults: 0,
        dead: false,
        life: 0,
        calm: false,
        quiet_until_ms: 0,
        orders_wait: true,
        life_began_ms: 0,
        said_over: std::collections::HashMap::new(),
        unhealthy_until_ms: 0,
        quarantined: std::collections::BTreeMap::new(),
        full_until_ms: 0,
        walker: Walker::new(Path::new(ROOT)),
        random: random.fork(),
        wall_high_ms: 0,
        slow_until_ms: 0,
        syncs_failed: 0,
        segment_bytes: 0,
        no_room: std::collections::VecDeque::new(),
        expects_end: false,
    };
    let common: SharedCommon = Arc::new(Mutex::new(common));
    loop {
        let last = {
            let common = lock(&common);
            common.commands >= COMMANDS_MIN && common.faults >= FAULTS_MIN
        };
        one_life(&common, &disk, &mut random, last);
        let mut guard = lock(&common);
        guard.end_life();
        for panic in panics::take() {
            guard.fail(Broken::told(panic, 0));
        }
        if guard.broken.is_some() || last {
            break;
        }
        let next_is_last = guard.commands >= COMMANDS_MIN && guard.faults >= FAULTS_MIN;
        drop(guard);
        crate::mischief::cut(&common, &disk, &mut random);
        crate::starts::with_damage(&common, &disk, &mut random);
        crate::starts::without_archive(&common, &disk, &mut random);
        if !next_is_last {
            crate::mischief::unsettle(&common, &disk, &mut random);
        }
    }
    panics::stop_listening();
    let mut common = lock(&common);
    let virtual_ms = common.clock.now_ms();
    History {
        seed,
        hash: common.trace.hash,
        commands: common.commands,
        faults: common.faults,
        lives: common.life,
        events: common.model.index,
        virtual_ms,
        broken: common.broken.clone(),
        lines: std::mem::take(&mut common.trace.lines).into(),
        reached: sometimes::take(),
    }
}

fn one_life(common: &SharedCommon, disk: &Machine, random: &mut Random, last: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without threads or sockets can be made");
    let local = LocalSet::new();
    let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        local.block_on(&runtime, life(common, disk, random, last));
    }));
    if lived.is_err() {
        lock(common).fail(Broken { law: 0, seen: "the world itself panicked".into() });
    }
    // Whatever still ran dies with the set; it hears and says nothing any more. Time is the runtime's, so it stops here.
    runtime.block_on(async {
        let mut common = lock(common);
        common.dead = true;
        common.clock.end_life();
    });
    drop(local);
    drop(runtime);
}

pub(crate) fn options(common: &SharedCommon, disk: &Machine, random: &mut Random) -> EngineOptions {
    let fatal = SharedCommon::clone(common);
    let mut options = EngineOptions::new(PathBuf::from(ROOT));
    let machine = disk.clone();
    options.disk = disk.boot();
    options.workers = usize::try_from(random.between(1, 3)).unwrap_or(1);
    options.segment_bytes = *random.pick(&[32 << 10, 128 << 10, 128 << 10]);
    lock(common).segment_bytes = options.segment_bytes;
    options.limits = Limits {
        checkpoint_interval: Duration::from_millis(random.pick(&[150, 400, 900]).to_owned()),
        passivate_after: Duration::from_millis(600),
        sleep_after: Duration::from_millis(250),
        payment_deadline: Duration::from_millis(250),
        payment_pin: Duration::from_secs(6),
        ..Limits::default()
    };
    let pace = random.weighted(&[(5, None), (2, Some(120)), (2, Some(40)), (1, Some(12))]);
    options.providers = vec![Arc::new(Provider::new(SharedCommon::clone(common), pace))];
    let defer_ms = random.weighted(&[
        (4, Some(86_400_000)),
        (3, Some(60_000)),
        (3, Some(5_000)),
        (3, Some(1_500)),
        (2, None),
    ]);
    options.when_down = WhenDown { fallback: None, defer: defer_ms.map(Duration::from_millis) };
    lock(common).orders_wait = defer_ms.is_some();
    options.on_fatal = Arc::new(move |why| {
        let mut common = lock(&fatal);
        if common.dead {
            return;
        }
        common.dead = true;
        let now_ms = common.clock.now_ms();
        common.trace.line(now_ms, || format!("the engine ends: {why}"));
        if machine.happened().syncs_failed > common.syncs_failed {
            sometimes!("a sync failed and the engine stopped");
        }
        if !common.expects_end && !machine.is_off() {
            common.fail(Broken { law: 3, seen: format!("the engine ended without a reason: {why}") });
        }
    });
    options
}

async fn life(common: &SharedCommon, disk: &Machine, random: &mut Random, last: bool) {
    {
        let mut common = lock(common);
        common.clock.begin_life();
        common.life += 1;
        common.dead = false;
        common.expects_end = false;
        common.wall_high_ms = 0;
        common.quarantined.clear();
        common.ledger.life = common.life;
        common.ledger.healed = last;
        common.life_began_ms = common.clock.now_ms();
        common.quiet_until_ms = 0;
        if last {
            common.heal_clock();
        }
        // What kept the last engine from being prompt is over: a new one's clock has not jumped.
        common.unhealthy_until_ms = 0;
        common.unhealthy_for(500);
        let (life, now_ms) = (common.life, common.clock.now_ms());
        common.trace.mix(life);
        common
            .trace
            .line(now_ms, || format!("life {life} begins{}", if last { ", the last one" } else { "" }));
    }
    let (host, _on_the_way) = SimulatedHost::new(SharedCommon::clone(common), random.fork(), !last);
    let started = Engine::start_stepped(options(common, disk, random), Arc::new(host), &mut |_| {});
    let (engine, mut stepped, report) = match started {
        Ok(started) => started,
        Err(error) => {
            let mut common = lock(common);
            if disk.is_off() {
                sometimes!("the power failed during a start");
                common.dead = true;
            } else {
                let of_bytes = matches!(
                    &error,
                    StartError::Gap { .. } | StartError::Journal(_) | StartError::MissingFrames { .. }
                );
                let law = if of_bytes { 9 } else { 3 };
                common.fail(Broken::told(format!("the engine does not start: {error}"), law));
            }
            return;
        }
    };
    {
        let mut common = lock(common);
        let now_ms = common.clock.now_ms();
        common.trace.line(now_ms, || format!("recovered: {report:?}"));
        if report.cut.is_some() {
            sometimes!("a torn tail was cut");
        }
        if report.records_skipped > 0 {
            sometimes!("a replay skipped what rows reflect");
        }
        match report.checkpoint {
            doorbuster_persistence::recovery::CheckpointUse::None => {}
            doorbuster_persistence::recovery::CheckpointUse::Mark { .. } => {
                sometimes!("a replay began at a mark");
            }
            doorbuster_persistence::recovery::CheckpointUse::Rebuilt { .. } => {
                sometimes!("a damaged checkpoint was set aside");
            }
        }
        let before = common.walker.frames();
        common.absorb_again(&Durable(disk));
        if common.walker.frames() > before {
            sometimes!("an unsynced frame survived");
        }
        if !common.model.unfinished().is_empty() {
            sometimes!("a start found an unfinished saga");
        }
        common.model.forget_tentative();
        let checked = common.model.check_sums();
        common.note(checked);
    }
    stepped.attach_workers();
    let life = Life {
        common: SharedCommon::clone(common),
        disk: disk.clone(),
        engine,
        stepped: Rc::new(RefCell::new(stepped)),
        death: Rc::new(Notify::new()),
        last,
    };
    spawn_local(life.clone().write(random.fork()));
    spawn_local(life.clone().checkpoint(random.fork()));
    spawn_local(life.clone().watch());
    if last {
        life.finish().await;
        return;
    }
    spawn_local(life.clone().begin(random.fork()));
    spawn_local(life.clone().mischief(random.fork()));
    spawn_local(postman::deliver(SharedCommon::clone(common), life.engine.clone(), random.fork()));
    for _ in 0..random.between(3, 8) {
        let (common, engine) = (SharedCommon::clone(common), life.engine.clone());
        spawn_local(clients::shop(common, engine, random.fork()));
    }
    life.death.notified().await;
}

impl Life {
    fn is_over(&self) -> bool {
        let mut common = lock(&self.common);
        if self.disk.is_off() && !common.dead {
            // The power failed at some operation of the disk; whoever did it does not know yet.
            common.dead = true;
            sometimes!("the power failed during an operation of the disk");
        }
        common.dead
    }

    /// The process is gone, at this very moment.
    fn die(&self, why: &str) {
        let mut common = lock(&self.common);
        if !common.dead {
            common.dead = true;
            common.faults += 1;
            let now_ms = common.clock.now_ms();
            common.trace.line(now_ms, || format!("crash: {why}"));
        }
        self.death.notify_one();
    }

    /// The journal's writer, a step at a time.
    async fn write(self, mut random: Random) {
        loop {
            if self.is_over() {
                return self.death.notify_one();
            }
            let wrote = self.stepped.borrow_mut().journal_write();
            if !wrote {
                let calm = {
                    let mut common = lock(&self.common);
                    let now_ms = common.clock.now_ms();
                    common.judge_shortages(now_ms);
                    common.calm || common.is_quiet()
                };
                tokio::time::sleep(Duration::from_millis(if calm { 50 } else { 1 })).await;
                continue;
            }
            if !self.last && random.one_in(900) {
                return self.die("a frame is written and not synced");
            }
            let slow_ms = lock(&self.common).slow_ms(&mut random) + self.disk.take_delay_ms();
            if slow_ms > 0 {
                tokio::time::sleep(Duration::from_millis(slow_ms)).await;
            }
            if self.is_over() {
                return self.death.notify_one();
            }
            self.stepped.borrow_mut().journal_sync();
            if self.is_over() {
                return self.death.notify_one();
            }
            {
                let mut common = lock(&self.common);
                common.absorb(&Durable(&self.disk));
                if common.broken.is_some() {
                    drop(common);
                    return self.die("a law is broken");
                }
            }
            if !self.last && random.one_in(900) {
                return self.die("a frame is synced and nobody told");
            }
            tokio::task::yield_now().await;
        }
    }

    /// The checkpointer, a step at a time.
    async fn checkpoint(self, mut random: Random) {
        let archive = Path::new(ROOT).join("journal/archive");
        let (mut archived, mut rounds) = (self.disk.list(&archive).len(), 0);
        loop {
            if self.is_over() {
                return self.death.notify_one();
            }
            let did = self.stepped.borrow_mut().checkpointer_step();
            let now = self.stepped.borrow().checkpoint_rounds();
            // A look at every row costs as much as many commands, so not every round is looked at.
            if now > rounds && now % ROWS_EVERY == 1 {
                self.check_rows();
            }
            rounds = now;
            if did && !self.last && random.one_in(2_500) {
                sometimes!("a checkpoint was interrupted");
                return self.die("between two steps of the checkpointer");
            }
            if did {
                tokio::task::yield_now().await;
            } else {
                let now = self.disk.list(&archive).len();
                if now > archived && !self.disk.is_off() {
                    sometimes!("a segment was archived");
                    let checked = rows::check_archive(&self.disk);
                    lock(&self.common).note(checked);
                }
                archived = now;
                let calm = {
                    let common = lock(&self.common);
                    common.calm || common.is_quiet()
                };
                tokio::time::sleep(Duration::from_millis(if calm { 200 } else { 10 })).await;
            }
        }
    }

    /// Holds the checkpoint's rows against the model, unless the disk is about to end the engine.
    fn check_rows(&self) {
        let mut common = lock(&self.common);
        if !common.expects_end && !self.disk.is_off() {
            let checked = rows::check(&common.model, &self.disk);
            common.note(checked);
        }
    }

    /// Looks at everything four times a second.
    async fn watch(self) {
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            if self.is_over() {
                return self.death.notify_one();
            }
            let mut common = lock(&self.common);
            let quarantined = &common.quarantined;
            let checked = common.check_overdue(|sku| quarantined.get(sku).is_some_and(|panics| *panics > 3));
            common.note(checked);
            let checked = common.model.check_sums();
            common.note(checked);
            for panic in panics::take() {
                common.fail(Broken::told(panic, 0));
            }
            if common.broken.is_some() {
                drop(common);
                return self.die("a law is broken");
            }
        }
    }

    /// The first thing in a life: the SKUs in the first one; in a later one a look at what was recovered.
    async fn begin(self, mut random: Random) {
        let asks: Vec<(Ask, Option<String>)> = {
            let common = lock(&self.common);
            let missing = SKUS.iter().filter(|name| !common.model.shelves.contains_key(&sku(name)));
            let define = |name: &&str| {
                let opening = Some(i64::try_from(random.between(8, 60)).unwrap_or(8));
                let ask = Ask::Define(sku(name), Box::new(definition(name, 750)), opening);
                (ask, Some(format!("define-{name}-{}", common.life)))
            };
            let mut asks: Vec<_> = missing.map(define).collect();
            asks.extend(everything(&common, 25).into_iter().map(|ask| (ask, None)));
            asks
        };
        for (ask, key) in asks {
            let number = enter(&mut lock(&self.common), ask, key);
            if clients::insist(&self.common, &self.engine, number).await.is_none() {
                return;
            }
        }
    }

    /// Something goes wrong every now and then.
    async fn mischief(self, mut random: Random) {
        let mut ends_at_ms = lock(&self.common).clock.now_ms() + random.between(400, 4_500);
        loop {
            tokio::time::sleep(Duration::from_millis(random.between(60, 500))).await;
            if self.is_over() {
                return self.death.notify_one();
            }
            let quiet_ms = {
                let common = lock(&self.common);
                common.quiet_until_ms.saturating_sub(common.clock.now_ms())
            };
            if quiet_ms > 0 {
                // Some of these lives end in the middle of it.
                let waits_ms = if random.one_in(4) { random.below(quiet_ms) } else { quiet_ms };
                tokio::time::sleep(Duration::from_millis(waits_ms)).await;
                ends_at_ms = lock(&self.common).clock.now_ms() + random.between(0, 4_000);
                lock(&self.common).quiet_until_ms = 0;
                continue;
            }
            if lock(&self.common).clock.now_ms() > ends_at_ms {
                return self.die("its time has come");
            }
            crate::mischief::strike(&self.common, &self.disk, &self.engine, &mut random).await;
        }
    }
}
