//! The clients: what they ask, when, how often, and what they do with what they hear.
//!
//! They see the model, as a shopper sees a shop: they aim at reservations that are held, at deadlines to the millisecond,
//! at carts that just checked out. A request whose outcome is unknown is asked again, in this life or a later one, until
//! its verdict is definite; many are asked again though they have one, and some in several copies at once.

use std::time::Duration;

use doorbuster_actors::Engine;
use doorbuster_engine::answer::{Answer, Item, Refusal};
use doorbuster_engine::identity::{CartId, OrderId, ReservationId, Sku};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::order::LineUnits;
use doorbuster_engine::stock::{Definition, Oversell};

use crate::ask::Ask;
use crate::checker::{Copy, Standing};
use crate::common::{Common, Request};
use crate::provider::{SharedCommon, lock};
use crate::random::Random;
use crate::sometimes;

/// SKUs of every world: few, so that clients meet.
pub const SKUS: [&str; 6] = ["ANVIL", "BELL", "CUP", "DRUM", "EGG", "FLUTE"];

/// How long a client waits for an answer, in milliseconds.
const PATIENCE_MS: u64 = 1_500;

/// A SKU's name as the engine wants it.
pub fn sku(name: &str) -> Sku {
    Sku::new(name).expect("the world's SKUs are sound")
}

/// What is said of a SKU when a world begins: one is free, two may be oversold.
pub fn definition(name: &str, price: i64) -> Definition {
    Definition {
        name: name.to_lowercase().into(),
        price: Money { amount: if name == "EGG" { 0 } else { price }, currency: Currency::GBP },
        oversell: if name == "BELL" || name == "FLUTE" { Oversell::Allow(5) } else { Oversell::Deny },
        reservation_ttl_ms: if name == "CUP" { Some(900) } else { None },
        low_stock_at: None,
    }
}

/// Enters a request and returns its number.
pub fn enter(common: &mut Common, ask: Ask, key: Option<String>) -> usize {
    common.requests.push(Request {
        ask,
        key,
        under_way: 0,
        unknown: 0,
        asked: 0,
        asked_at_ms: 0,
        refused: false,
        answered: None,
        answered_at_ms: 0,
        settled: false,
        owed: false,
    });
    common.requests.len() - 1
}

/// Sends one copy of a request and judges what it hears. Says what is left to do; `None` when the life ended meanwhile.
pub async fn send(common: &SharedCommon, engine: &Engine, number: usize) -> Option<Standing> {
    let (ask, ticket, copy) = {
        let mut common = lock(common);
        if common.dead {
            return None;
        }
        let request = &common.requests[number];
        let (ask, key) = (request.ask.clone(), request.key.clone());
        let body = ask.body();
        let deadline = crate::world::deadline(PATIENCE_MS);
        let ticket = engine.ticket("client", key.as_deref(), "POST", "/", body.as_bytes(), deadline);
        let copy = Copy {
            request: number,
            stamp: ticket.stamp,
            keyed: ticket.keyed,
            asked: common.model.index,
            business_ms: common.business_ms(),
        };
        if common.requests[number].under_way > 0 {
            sometimes!("a twin joined");
        } else {
            common.requests[number].asked = common.model.index;
            common.requests[number].asked_at_ms = common.clock.now_ms();
        }
        common.requests[number].under_way += 1;
        common.by_stamp.insert((ticket.stamp.key.0, ticket.stamp.fingerprint.0), number);
        if !ask.is_read() {
            common.commands += 1;
        }
        let now_ms = common.clock.now_ms();
        common.trace.line(now_ms, || format!("request {number} asks {ask:?}"));
        (ask, ticket, copy)
    };
    let verdict = ask.send(engine, ticket).await;
    let mut common = lock(common);
    if common.dead {
        return None;
    }
    let standing = common.judge(copy, &verdict);
    let request = &mut common.requests[number];
    request.under_way -= 1;
    match standing {
        Standing::Definite => {
            request.refused |= verdict.is_err();
            request.owed = false;
        }
        Standing::Later => {
            request.refused = true;
            request.owed |= request.key.is_some();
            // Another copy has it in hand, or this one's own work runs on: nobody was refused.
            request.unknown += u32::from(matches!(verdict, Err(Refusal::InProgress { .. })));
        }
        Standing::Unknown => {
            request.unknown += 1;
            request.owed = request.key.is_some();
        }
    }
    Some(standing)
}

/// Asks until the verdict is definite, or the life ends.
pub async fn insist(common: &SharedCommon, engine: &Engine, number: usize) -> Option<()> {
    let mut pause_ms = 20;
    loop {
        match send(common, engine, number).await? {
            Standing::Definite => return Some(()),
            Standing::Later | Standing::Unknown => {
                if lock(common).requests[number].key.is_none() {
                    return Some(());
                }
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                pause_ms = (pause_ms * 2).min(800);
            }
        }
    }
}

/// One client's life: asks until told to stop.
pub async fn shop(common: SharedCommon, engine: Engine, mut random: Random) {
    loop {
        let pause_ms = if lock(&common).is_quiet() {
            random.between(1_000, 12_000)
        } else {
            random.weighted(&[(5, 0), (4, 3), (3, 15), (1, 60)])
        };
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        let numbers = {
            let mut guard = lock(&common);
            if guard.dead {
                return;
            }
            choose(&mut guard, &mut random)
        };
        if let Some(wait_ms) = numbers.wait_ms {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
        let mut copies = Vec::new();
        for number in numbers.numbers {
            let (common, engine) = (SharedCommon::clone(&common), engine.clone());
            copies.push(tokio::task::spawn_local(async move { send(&common, &engine, number).await }));
        }
        for copy in copies {
            // A life that ends drops the copies; the requests know that they were under way.
            let Ok(Some(_)) = copy.await else { return };
        }
    }
}

/// What a client does next: these requests, all at once, after a wait.
struct Plan {
    numbers: Vec<usize>,
    wait_ms: Option<u64>,
}

fn choose(common: &mut Common, random: &mut Random) -> Plan {
    let now = |numbers| Plan { numbers, wait_ms: None };
    let known = common.requests.len();
    // What is owed an answer comes first, more often than not.
    if random.percent(30)
        && let Some(owed) = (0..known).rev().take(400).find(|at| {
            let request = &common.requests[*at];
            request.owed && request.under_way == 0
        })
    {
        return now(vec![owed]);
    }
    // An old request again: its answer must be the first one.
    if known > 20 && random.percent(9) {
        let reach = if random.percent(70) { known.min(60) } else { known };
        let at = known - 1 - random.index(reach);
        if common.requests[at].key.is_some() {
            return now(vec![at]);
        }
    }
    // The same key with another body.
    if known > 20 && random.percent(3) {
        let at = known - 1 - random.index(known.min(40));
        let (ask, key) = (common.requests[at].ask.clone(), common.requests[at].key.clone());
        if let (Some(key), Some(other)) = (key, another_body(&ask)) {
            let number = enter(common, other, Some(key));
            return now(vec![number]);
        }
    }
    let (ask, wait_ms) = ask_something(common, random);
    let keyless = ask.is_read()
        || (random.percent(6)
            && matches!(
                ask,
                Ask::Adjust(..) | Ask::Reserve(..) | Ask::Commit(_) | Ask::Release(_) | Ask::AddLines(..)
            ));
    let key = (!keyless).then(|| format!("key-{known}"));
    let number = enter(common, ask, key);
    let twins = if !keyless && random.percent(12) { random.between(2, 4) } else { 1 };
    Plan { numbers: (0..twins).map(|_| number).collect(), wait_ms }
}

/// The request with another content.
fn another_body(ask: &Ask) -> Option<Ask> {
    match ask {
        Ask::Adjust(sku, delta) => Some(Ask::Adjust(sku.clone(), if *delta == -1 { 1 } else { delta + 1 })),
        Ask::Reserve(items, ttl_ms, partial) => {
            Some(Ask::Reserve(items.clone(), Some(ttl_ms.unwrap_or(100) + 1), *partial))
        }
        Ask::Commit(id) => Some(Ask::Release(*id)),
        Ask::Release(id) => Some(Ask::Commit(*id)),
        Ask::SetQuantity(cart, line, quantity, version) => {
            Some(Ask::SetQuantity(*cart, *line, quantity + 1, *version))
        }
        Ask::Refund(order, amount, lines, restock) => {
            Some(Ask::Refund(*order, *amount, lines.clone(), !restock))
        }
        Ask::Define(..)
        | Ask::Count(..)
        | Ask::Extend(..)
        | Ask::MakeCart(_)
        | Ask::AddLines(..)
        | Ask::DeleteCart(_)
        | Ask::Checkout(..)
        | Ask::Confirm(_)
        | Ask::Cancel(_)
        | Ask::Fulfil(..)
        | Ask::SeeReservation(_)
        | Ask::SeeCart(_)
        | Ask::SeeOrder(_)
        | Ask::SeeStock(_) => None,
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Reserve,
    ReserveSeveral,
    EndOne,
    AtDeadline,
    Extend,
    Stock,
    MakeCart,
    ChangeCart,
    Checkout,
    AfterOrder,
    See,
}

fn ask_something(common: &Common, random: &mut Random) -> (Ask, Option<u64>) {
    let kind = random.weighted(&[
        (20, Kind::Reserve),
        (11, Kind::ReserveSeveral),
        (14, Kind::EndOne),
        (6, Kind::AtDeadline),
        (4, Kind::Extend),
        (9, Kind::Stock),
        (7, Kind::MakeCart),
        (6, Kind::ChangeCart),
        (9, Kind::Checkout),
        (10, Kind::AfterOrder),
        (9, Kind::See),
    ]);
    let asked = match kind {
        Kind::Reserve => None,
        Kind::ReserveSeveral => Some((reserve_several(random), None)),
        Kind::EndOne => held(common, random).map(|(id, _)| {
            let ask = if random.percent(60) { Ask::Commit(id) } else { Ask::Release(id) };
            (ask, None)
        }),
        Kind::AtDeadline => at_deadline(common, random),
        Kind::Extend => held(common, random).map(|(id, _)| {
            let by_ms = random.weighted(&[(6, 400), (3, 2_000), (1, 90_000_000)]);
            (Ask::Extend(id, by_ms), None)
        }),
        Kind::Stock => Some((stock(common, random), None)),
        Kind::MakeCart => Some((Ask::MakeCart(lines(random)), None)),
        Kind::ChangeCart => change_cart(common, random).map(|ask| (ask, None)),
        Kind::Checkout => cart(common, random).map(|(id, total)| {
            let wrong = Money { amount: total.amount + 1, currency: total.currency };
            let expected = random.weighted(&[(6, None), (4, Some(total)), (1, Some(wrong))]);
            (Ask::Checkout(id, expected), None)
        }),
        Kind::AfterOrder => after_order(common, random).map(|ask| (ask, None)),
        Kind::See => Some((see(common, random), None)),
    };
    asked.unwrap_or_else(|| (reserve(random), None))
}

fn any_sku(random: &mut Random) -> Sku {
    // The first two are hot.
    let at = random.weighted(&[(5, 0), (4, 1), (2, 2), (2, 3), (1, 4), (1, 5)]);
    sku(SKUS[at])
}

fn time_to_live(random: &mut Random) -> Option<u64> {
    random.weighted(&[(3, Some(120)), (4, Some(700)), (4, Some(2_500)), (2, Some(9_000)), (1, None)])
}

fn reserve(random: &mut Random) -> Ask {
    let quantity = i64::try_from(random.between(1, 4)).unwrap_or(1);
    let item = Item { sku: any_sku(random), quantity };
    Ask::Reserve(vec![item], time_to_live(random), random.percent(20))
}

fn reserve_several(random: &mut Random) -> Ask {
    let mut items: Vec<Item> = Vec::new();
    for _ in 0..random.between(2, 4) {
        let (sku, quantity) = (any_sku(random), i64::try_from(random.between(1, 3)).unwrap_or(1));
        if items.iter().all(|item| item.sku != sku) {
            items.push(Item { sku, quantity });
        }
    }
    Ask::Reserve(items, time_to_live(random), random.percent(20))
}

/// A public reservation, most likely one that is held, with its deadline.
fn held(common: &Common, random: &mut Random) -> Option<(ReservationId, u64)> {
    let model = &common.model;
    let singles = model.singles.iter().filter(|(_, single)| single.is_held());
    let mut held: Vec<(u128, u64)> = singles.map(|(id, single)| (*id, single.expires_at_ms)).collect();
    let sagas = model.sagas.iter().filter(|(_, saga)| saga.is_held());
    held.extend(sagas.map(|(id, saga)| (*id, saga.expires_at_ms)));
    if held.is_empty() || random.percent(12) {
        let ended: Vec<u128> = model.singles.keys().chain(model.sagas.keys()).copied().collect();
        return (!ended.is_empty()).then(|| (ReservationId(*random.pick(&ended)), 0));
    }
    let (id, expires_at_ms) = *random.pick(&held);
    Some((ReservationId(id), expires_at_ms))
}

/// A command on a reservation to reach it within a millisecond of its deadline.
fn at_deadline(common: &Common, random: &mut Random) -> Option<(Ask, Option<u64>)> {
    let (id, expires_at_ms) = held(common, random)?;
    let business_ms = common.clock.wall_ms().max(common.model.last_at_ms);
    let left_ms = expires_at_ms.checked_sub(business_ms).filter(|left_ms| (2..3_000).contains(left_ms))?;
    let wait_ms = left_ms - 1 + random.below(3);
    let ask = random.weighted(&[(6, 0), (2, 1), (2, 2)]);
    let ask = match ask {
        0 => Ask::Commit(id),
        1 => Ask::Release(id),
        _ => Ask::Extend(id, 300),
    };
    Some((ask, Some(wait_ms)))
}

fn stock(common: &Common, random: &mut Random) -> Ask {
    let sku = any_sku(random);
    let shelf = common.model.shelves.get(&sku);
    let (on_hand, version) = shelf.map_or((0, 0), |shelf| (shelf.on_hand, shelf.version));
    let low = shelf.is_some_and(|shelf| shelf.sellable() < 8);
    let units = i64::try_from(random.between(1, 12)).unwrap_or(1);
    match random.weighted(&[(6, 0), (2, 1), (2, 2), (2, 3)]) {
        0 => Ask::Adjust(sku, if low || random.percent(55) { units } else { -units }),
        1 => Ask::Count(sku, on_hand + units - 5, version - version.min(random.below(2))),
        2 => {
            let price = i64::try_from(random.between(100, 2_000)).unwrap_or(100);
            let definition = Box::new(definition(sku.as_str(), price));
            Ask::Define(sku, definition, Some(5))
        }
        _ => Ask::Adjust(sku, units),
    }
}

fn lines(random: &mut Random) -> Vec<(Sku, i64)> {
    (0..random.between(0, 3))
        .map(|_| (any_sku(random), i64::try_from(random.between(1, 3)).unwrap_or(1)))
        .collect()
}

/// A cart, most likely an open one with lines.
fn cart(common: &Common, random: &mut Random) -> Option<(CartId, Money)> {
    let carts = &common.model.carts;
    let open = carts
        .iter()
        .filter(|(_, cart)| cart.stage == crate::model::basket::Stage::Open && !cart.lines().is_empty());
    let open: Vec<_> = open.map(|(id, cart)| (CartId(*id), cart.total())).collect();
    if open.is_empty() || random.percent(15) {
        let all: Vec<_> = carts.iter().map(|(id, cart)| (CartId(*id), cart.total())).collect();
        return (!all.is_empty()).then(|| *random.pick(&all));
    }
    Some(*random.pick(&open))
}

fn change_cart(common: &Common, random: &mut Random) -> Option<Ask> {
    let (id, _) = cart(common, random)?;
    let basket = common.model.carts.get(&id.0)?;
    let version = basket.past.last().and_then(Option::as_ref).map(|view| view.version);
    let version =
        version.filter(|_| random.percent(30)).map(|version| version - version.min(random.below(2)));
    let line = basket.lines().first().map_or(1, |line| line.line);
    Some(match random.weighted(&[(5, 0), (4, 1), (1, 2)]) {
        0 => Ask::AddLines(id, vec![(any_sku(random), 1)], version),
        1 => Ask::SetQuantity(id, line, i64::try_from(random.below(4)).unwrap_or(0), version),
        _ => Ask::DeleteCart(id),
    })
}

fn after_order(common: &Common, random: &mut Random) -> Option<Ask> {
    let orders = &common.model.orders;
    let waiting: Vec<_> = orders.values().filter(|order| order.waits_for_shopper()).collect();
    if !waiting.is_empty() && random.percent(50) {
        return Some(Ask::Confirm(random.pick(&waiting).id()));
    }
    let alive: Vec<_> = orders.values().filter(|order| order.is_placed() || order.is_open()).collect();
    let all: Vec<_> = orders.values().collect();
    let order = if alive.is_empty() || random.percent(10) {
        *all.get(random.index(all.len().max(1)))?
    } else {
        *random.pick(&alive)
    };
    let id: OrderId = order.id();
    let line = random.pick(order.lines());
    let units =
        vec![LineUnits { line: line.line, quantity: i64::try_from(random.between(1, 2)).unwrap_or(1) }];
    let amount = i64::try_from(random.between(1, 900)).unwrap_or(1);
    Some(match random.weighted(&[(3, 0), (3, 1), (3, 2), (3, 3), (2, 4), (4, 5), (2, 6)]) {
        0 => Ask::Cancel(id),
        1 => Ask::Refund(id, None, Some(units), random.percent(60)),
        2 => Ask::Refund(id, Some(amount), None, false),
        3 => Ask::Refund(id, None, None, true),
        4 => Ask::Fulfil(id, Some(units)),
        5 => Ask::Fulfil(id, None),
        _ => Ask::Confirm(id),
    })
}

fn see(common: &Common, random: &mut Random) -> Ask {
    match random.below(4) {
        0 => held(common, random).map(|(id, _)| Ask::SeeReservation(id)),
        1 => cart(common, random).map(|(id, _)| Ask::SeeCart(id)),
        2 => {
            let orders: Vec<u128> = common.model.orders.keys().copied().collect();
            (!orders.is_empty()).then(|| Ask::SeeOrder(OrderId(*random.pick(&orders))))
        }
        _ => None,
    }
    .unwrap_or_else(|| Ask::SeeStock(any_sku(random)))
}

/// Whether an answer shows units granted.
pub fn is_grant(answer: &Answer) -> bool {
    matches!(answer, Answer::Reservation(_))
}
