//! The journal's last room, used up: the disk is full, callers have taken what is theirs, and more timers ring than the rest has
//! room for. What found none must come again once there is some (law 6).

use std::time::Duration;

use doorbuster_actors::Engine;
use doorbuster_engine::answer::Item;

use crate::ask::Ask;
use crate::checker::Standing;
use crate::clients::{SKUS, enter, insist, send, sku};
use crate::disk::Machine;
use crate::provider::{SharedCommon, lock};
use crate::sometimes;

/// How long what is held for the occasion lives: long enough for the room to be used up first.
const HELD_MS: u64 = 3_000;

/// Reservations of each SKU alone, and of each with its neighbour: their endings are more than the room kept for endings.
const EACH: usize = 6;

/// Asks until nothing more fits, but not for ever.
const ASKS_MAX: usize = 2_000;

/// Lets everything end while there is no room. `None` when the life ended meanwhile.
pub async fn pinch(common: &SharedCommon, engine: &Engine, disk: &Machine) -> Option<()> {
    for (at, name) in SKUS.iter().enumerate() {
        let units = i64::try_from(3 * EACH).unwrap_or(0);
        ask(common, engine, Ask::Adjust(sku(name), units), format!("pinch-units-{name}")).await?;
        let neighbour = SKUS[(at + 1) % SKUS.len()];
        for n in 0..EACH {
            for (how, names) in [("alone", vec![*name]), ("both", vec![*name, neighbour])] {
                let items = names.into_iter().map(|name| Item { sku: sku(name), quantity: 1 }).collect();
                let reserve = Ask::Reserve(items, Some(HELD_MS), false);
                ask(common, engine, reserve, format!("pinch-{how}-{name}-{n}")).await?;
            }
        }
    }
    disk.fill(0);
    {
        let mut common = lock(common);
        common.full_until_ms = u64::MAX;
        common.unhealthy_for(HELD_MS + 5_000);
    }
    let mut refused = 0;
    for n in 0..ASKS_MAX {
        let count = Ask::Adjust(sku(SKUS[n % SKUS.len()]), 1);
        let number = enter(&mut lock(common), count, None);
        refused = if send(common, engine, number).await? == Standing::Later { refused + 1 } else { 0 };
        if refused == SKUS.len() {
            break;
        }
    }
    tokio::time::sleep(Duration::from_millis(HELD_MS + 500)).await;
    disk.make_room();
    let mut common = lock(common);
    common.full_until_ms = common.clock.now_ms() + 200;
    common.unhealthy_for(1_500);
    sometimes!("the last room was used up");
    Some(())
}

async fn ask(common: &SharedCommon, engine: &Engine, ask: Ask, key: String) -> Option<()> {
    let number = enter(&mut lock(common), ask, Some(key));
    insist(common, engine, number).await
}
