//! What goes wrong: the disk, the clock, the actors; and what a crash leaves of the disk.

use std::time::Duration;

use doorbuster_actors::Engine;

use crate::clients::{SKUS, sku};
use crate::common::Common;
use crate::disk::{Faults, Machine};
use crate::provider::{SharedCommon, lock};
use crate::random::Random;
use crate::sometimes;

/// A jump of the clock by more than five seconds pauses expiry for half a minute, a smaller one does not.
const JUMP_FELT_MS: u64 = 4_900;

/// An outage longer than this is waited out by a shop that sells little.
const LONG_OUTAGE_MS: u64 = 20_000;

#[derive(Clone, Copy)]
enum Strike {
    ClockForward,
    ClockBack,
    ClockFar,
    Slow,
    Full,
    FailSync,
    FailWrite,
    PowerInOperation,
    Panic,
    Quarantine,
    Outage,
}

impl Common {
    /// How long the present frame's sync takes.
    pub fn slow_ms(&mut self, random: &mut Random) -> u64 {
        if self.clock.now_ms() < self.slow_until_ms {
            sometimes!("a slow disk kept answers waiting");
            return random.between(20, 400);
        }
        u64::from(random.one_in(6))
    }
}

/// One thing goes wrong.
pub async fn strike(common: &SharedCommon, disk: &Machine, engine: &Engine, random: &mut Random) {
    let strike = random.weighted(&[
        (5, Strike::ClockForward),
        (4, Strike::ClockBack),
        (1, Strike::ClockFar),
        (6, Strike::Slow),
        (5, Strike::Full),
        (3, Strike::FailSync),
        (2, Strike::FailWrite),
        (3, Strike::PowerInOperation),
        (12, Strike::Panic),
        (1, Strike::Quarantine),
        (6, Strike::Outage),
    ]);
    {
        let mut common = lock(common);
        if common.dead {
            return;
        }
        common.faults += 1;
    }
    let jump = |by_ms: i64| {
        let mut common = lock(common);
        common.wall_high_ms = common.wall_high_ms.max(common.clock.wall_ms());
        common.clock.offset_ms += by_ms;
        common.unhealthy_for(if by_ms.unsigned_abs() < JUMP_FELT_MS { 1_000 } else { 32_000 });
        let now_ms = common.clock.now_ms();
        common.trace.line(now_ms, || format!("the wall clock jumps by {by_ms} ms"));
        if by_ms > 0 {
            sometimes!("the clock jumped forward");
        } else {
            sometimes!("the clock jumped back");
        }
    };
    match strike {
        Strike::ClockForward => jump(i64::try_from(random.between(100, 9_000)).unwrap_or(100)),
        Strike::ClockBack => jump(-i64::try_from(random.between(100, 20_000)).unwrap_or(100)),
        Strike::ClockFar => jump(*random.pick(&[3_600_000, 90_000_000, 15 * 86_400_000])),
        Strike::Slow => {
            let mut common = lock(common);
            let for_ms = random.between(100, 1_200);
            common.slow_until_ms = common.clock.now_ms() + for_ms;
            common.unhealthy_for(for_ms + 1_000);
        }
        Strike::Full => {
            let for_ms = random.weighted(&[(3, 100), (3, 600), (3, 2_500)]) + random.below(300);
            disk.fill(0);
            {
                let mut common = lock(common);
                common.full_until_ms = u64::MAX;
                let now_ms = common.clock.now_ms();
                common.trace.line(now_ms, || "the disk is full".to_owned());
                common.unhealthy_for(for_ms + 1_500);
            }
            tokio::time::sleep(Duration::from_millis(for_ms)).await;
            disk.make_room();
            let mut common = lock(common);
            // Room is noticed at the writer's next step.
            common.full_until_ms = common.clock.now_ms() + 200;
            let now_ms = common.clock.now_ms();
            common.trace.line(now_ms, || "the disk has room again".to_owned());
            sometimes!("room came back and work went on");
        }
        Strike::FailSync => {
            lock(common).expects_end = true;
            disk.set_faults(Faults { fail_sync_in: Some(random.below(4)), ..Faults::default() });
        }
        Strike::FailWrite => {
            lock(common).expects_end = true;
            disk.set_faults(Faults { fail_write_in: Some(random.below(4)), ..Faults::default() });
        }
        Strike::PowerInOperation => {
            disk.set_faults(Faults { cut_in: Some(random.below(40)), ..Faults::default() });
        }
        Strike::Panic => {
            let name = *random.pick(&SKUS);
            {
                let mut common = lock(common);
                common.unhealthy_for(300);
                let now_ms = common.clock.now_ms();
                common.trace.line(now_ms, || format!("{name} panics"));
                let sagas = common.model.unfinished().len();
                *common.quarantined.entry(sku(name)).or_default() += 1;
                sometimes!("an actor panicked");
                if sagas > 0 {
                    sometimes!("an actor panicked during a saga");
                }
            }
            engine.poison(sku(name)).await;
        }
        Strike::Outage => {
            let for_ms =
                random.weighted(&[(5, 1_500), (5, 6_000), (2, 30_000), (1, 200_000)]) + random.below(2_000);
            {
                let mut common = lock(common);
                let now_ms = common.clock.now_ms();
                common.ledger.away_until_ms = now_ms + for_ms;
                common.trace.line(now_ms, || format!("the provider is away for {for_ms} ms"));
                if for_ms > LONG_OUTAGE_MS {
                    // Who comes in the first seconds waits; then the shop is quiet until some time after it.
                    common.quiet_until_ms = now_ms + for_ms + random.below(60_000);
                    sometimes!("the provider was away for long");
                }
            }
            // A machine that slept meanwhile: its timers are late, and the provider is back before they ring.
            if for_ms < LONG_OUTAGE_MS && random.one_in(2) {
                tokio::time::sleep(Duration::from_millis(for_ms * 3 / 4)).await;
                if !lock(common).dead {
                    jump(i64::try_from(random.between(JUMP_FELT_MS + 200, 9_000)).unwrap_or(9_000));
                }
            }
        }
        Strike::Quarantine => {
            let name = *random.pick(&SKUS);
            *lock(common).quarantined.entry(sku(name)).or_default() += 4;
            for _ in 0..4 {
                engine.poison(sku(name)).await;
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
            let mut common = lock(common);
            let now_ms = common.clock.now_ms();
            common.trace.line(now_ms, || format!("{name} is quarantined"));
            sometimes!("an actor was quarantined");
        }
    }
}

/// What a crash leaves of the disk: all of it, or what a power cut leaves.
pub fn cut(common: &SharedCommon, disk: &Machine, random: &mut Random) {
    let mut common = lock(common);
    disk.make_room();
    common.full_until_ms = common.clock.now_ms();
    common.slow_until_ms = 0;
    let before = disk.happened();
    let damage_store = random.one_in(8);
    disk.set_faults(Faults { damage_store, flip_unsynced: random.one_in(4), ..Faults::default() });
    if random.percent(25) && !damage_store && !disk.is_off() {
        disk.kill();
        sometimes!("the process was killed and the disk kept all");
    } else {
        disk.cut_power();
    }
    let after = disk.happened();
    if after.reorderings > before.reorderings {
        sometimes!("unsynced writes survived out of order");
    }
    if after.bits_flipped_unsynced > before.bits_flipped_unsynced {
        sometimes!("an unsynced bit was flipped");
    }
    if after.blocks_lost > before.blocks_lost {
        sometimes!("an unsynced frame was lost");
    }
    let now_ms = common.clock.now_ms();
    common.trace.line(now_ms, || format!("the disk after the crash: {after:?}"));
    disk.set_faults(Faults::default());
    common.syncs_failed = after.syncs_failed;
}

/// Some starts find the power failing under them, some a slow disk.
pub fn unsettle(common: &SharedCommon, disk: &Machine, random: &mut Random) {
    let cut_in = random.one_in(6).then(|| random.below(60));
    let slow_one_in = random.one_in(4).then_some(30);
    disk.set_faults(Faults { cut_in, slow_one_in, slow_ms_max: 200, ..Faults::default() });
    lock(common).faults += u64::from(cut_in.is_some());
}
