//! A day and a night after all work has ended: of what is gone nothing is left in memory (law 11).
//!
//! The wall clock jumps twice, by more than a day each time: first everything that is held must end, then every answer is
//! past its day. After each jump the provider tells once more of what it told up to three days ago. What stays is stock; carts and orders are in the store.

use std::cell::RefCell;
use std::time::Duration;

use doorbuster_actors::{Engine, Stepped};
use doorbuster_engine::identity::RequestKey;

use crate::broken::{Checked, demand};
use crate::common::Common;
use crate::postman;
use crate::provider::{SharedCommon, lock};
use crate::random::Random;

/// More than the longest life of a reservation, and than an answer is kept.
const JUMP_MS: i64 = 36 * 3_600_000;

/// After such a jump nothing expires for half a minute; then there are timers, a round of the checkpointer, and idle carts.
const AFTER_JUMP: Duration = Duration::from_secs(36);

/// Notices that come late, a jump.
const LATE_NOTICES: usize = 8;

/// Most names of what is left over that a report shows.
const SHOWN_MAX: usize = 12;

/// Lets two days pass and looks what is left.
pub async fn pass(common: &SharedCommon, engine: &Engine, stepped: &RefCell<Stepped>, random: &mut Random) {
    for _ in 0..2 {
        {
            let mut common = lock(common);
            common.calm = true;
            common.clock.offset_ms += JUMP_MS;
            common.unhealthy_for(u64::try_from(AFTER_JUMP.as_millis()).unwrap_or(u64::MAX));
        }
        // Orders are in the store by then and must be woken for it, and leave memory again.
        tokio::time::sleep(AFTER_JUMP / 2).await;
        if postman::repeat(common, engine, random, LATE_NOTICES).await.is_none() {
            return;
        }
        tokio::time::sleep(AFTER_JUMP / 2).await;
    }
    let mut common = lock(common);
    if !common.dead && common.broken.is_none() {
        let checked = nothing_is_left(&common, &stepped.borrow());
        common.note(checked);
    }
}

fn nothing_is_left(common: &Common, stepped: &Stepped) -> Checked {
    let asked = |key: RequestKey| {
        let known = common.by_stamp.iter().filter(|((of, _), _)| *of == key.0);
        let asked = known.map(|(_, at)| format!("{:?}", common.requests[*at].ask));
        asked.collect::<Vec<_>>().join(" or ")
    };
    let keys = stepped.keys().into_iter().map(|(key, stage)| format!("{key} of {}, {stage}", asked(key)));
    let residents = stepped.residents().into_iter().map(|entity| entity.to_string());
    for (what, mut left) in [
        ("keys", keys.collect::<Vec<_>>()),
        ("carts, orders or coordinators", residents.collect()),
        ("timers", stepped.armed()),
    ] {
        // What the index knows comes in no order.
        left.sort_unstable();
        demand(left.is_empty(), 11, || {
            let shown = left.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join("; ");
            format!("two days after all work has ended there are {} {what} left: {shown}", left.len())
        })?;
    }
    Ok(())
}
