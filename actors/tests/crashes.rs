//! Crashes at any moment of many checkouts: what was acknowledged is there, the laws hold, and every order ends.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use doorbuster_actors::{Engine, EngineOptions, OrderFilter};
use doorbuster_engine::answer::{Answer, Refusal};
use doorbuster_engine::cart::CartView;
use doorbuster_engine::order::{OrderState, OrderView, PaymentState};
use doorbuster_gateways::fake::{Fake, Options};

use crate::harness::{cart, checkout, define, record, reserve, snapshot_of, stock, ticket, with_options};

const SKUS: [&str; 3] = ["CUP", "HAT", "TEE"];
const UNITS: i64 = 40;
const METHODS: [&str; 6] = ["ok", "declined", "requires_action", "slow", "timeout", "error"];
const SHOPPERS: usize = 24;
const CRASHES: usize = 8;

/// What a shopper was told, and how to ask again.
#[derive(Clone)]
struct Told {
    key: String,
    cart: CartView,
    method: &'static str,
    answer: Answer,
}

fn hasty(options: &mut EngineOptions) {
    options.providers = vec![Arc::new(Fake::new(Options { slow_ms: 60, timeout_ms: 200 }))];
    options.limits.payment_deadline = Duration::from_millis(30);
    options.limits.checkpoint_interval = Duration::from_millis(40);
}

/// A copy as a crash leaves it: a checkpoint is never ahead of its journal, so the journal is copied last.
fn crash(data: &Path, to: &Path) {
    for part in ["checkpoint", "secrets", "journal"] {
        snapshot_of(&data.join(part), &to.join(part));
    }
    for entry in std::fs::read_dir(data).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// One shopper after the other through one client: carts of two SKUs, each method in its turn.
async fn shop(engine: Engine, client: usize, told: Rc<RefCell<Vec<Told>>>) {
    for round in 0..12 {
        let name = |n: usize| SKUS[n % SKUS.len()];
        let lines = [(name(client + round), 1), (name(client + round + 1), 1)];
        let key = format!("{client} {round}");
        let cart = cart(&engine, &format!("cart {key}"), &lines).await;
        let method = METHODS[(client + round) % METHODS.len()];
        match checkout(&engine, &key, &cart, method).await {
            Ok(reply) => {
                told.borrow_mut().push(Told { key: key.clone(), cart, method, answer: reply.answer });
            }
            Err(
                Refusal::InsufficientStock(_) | Refusal::PaymentDeclined { .. } | Refusal::InProgress { .. },
            ) => {}
            Err(other) => panic!("{method}: {other:?}"),
        }
        // In between, a reservation over several SKUs that comes and goes; after a crash, by its time.
        if let Ok(held) = reserve(&engine, &format!("hold {key}"), &lines, Some(2_000)).await {
            let id = record(Ok(held)).id;
            let released = engine.release(ticket(&engine, &format!("release {key}"), ""), id).await;
            assert!(matches!(released, Ok(_) | Err(Refusal::ReservationExpired)), "{released:?}");
        }
    }
}

/// Units of `sku` in orders that `wanted` picks.
fn units(orders: &[OrderView], sku: &str, wanted: impl Fn(&OrderView) -> bool) -> i64 {
    let lines = orders.iter().filter(|order| wanted(order)).flat_map(|order| &order.lines);
    lines.filter(|line| line.sku.as_str() == sku).map(|line| line.quantity).sum()
}

async fn orders(engine: &Engine) -> Vec<OrderView> {
    let mut found = Vec::new();
    let mut filter = OrderFilter { limit: 100, ..Default::default() };
    loop {
        let page = engine.orders(filter.clone()).await.unwrap();
        found.extend(page.data);
        match page.next_cursor {
            Some(cursor) => filter.starting_after = Some(cursor),
            None => return found,
        }
    }
}

/// What still has to happen: an order whose payment waits for anybody but its shopper, or units held for nobody.
async fn unfinished(engine: &Engine) -> Option<String> {
    let orders = orders(engine).await;
    let pending = |order: &OrderView| order.state == OrderState::PendingPayment;
    let never_ends =
        |order: &&OrderView| pending(order) && order.payment_state != PaymentState::RequiresAction;
    if let Some(order) = orders.iter().find(never_ends) {
        return Some(format!("{order:?}"));
    }
    for name in SKUS {
        let stock = stock(engine, name).await;
        let paid = units(&orders, name, |order| order.state == OrderState::Paid);
        let pinned = units(&orders, name, pending);
        if (stock.reserved, stock.sold) != (pinned, paid) {
            return Some(format!("{stock:?}, but {pinned} units pinned and {paid} paid"));
        }
    }
    None
}

#[test]
fn after_a_crash_at_any_moment_every_answer_stands_and_every_order_ends() {
    let data = tempfile::tempdir().unwrap();
    let copies = tempfile::tempdir().unwrap();
    let crashed = with_options(data.path(), hasty, async |engine| {
        for name in SKUS {
            define(&engine, name, UNITS).await;
        }
        let told = Rc::new(RefCell::new(Vec::new()));
        let shoppers: Vec<_> = (0..SHOPPERS)
            .map(|client| actix_rt::spawn(shop(engine.clone(), client, Rc::clone(&told))))
            .collect();
        let mut crashed = Vec::new();
        for n in 0..CRASHES {
            let pause = u64::from(std::process::id()).wrapping_mul(n as u64 + 7) % 53;
            tokio::time::sleep(Duration::from_millis(10 + pause)).await;
            let (acknowledged, to) = (told.borrow().clone(), copies.path().join(n.to_string()));
            let (from, target) = (data.path().to_path_buf(), to.clone());
            actix_rt::task::spawn_blocking(move || crash(&from, &target)).await.unwrap();
            crashed.push((acknowledged, to));
        }
        for shopper in shoppers {
            shopper.await.unwrap();
        }
        crashed
    });
    for (n, (acknowledged, copy)) in crashed.iter().enumerate() {
        with_options(copy, hasty, async |engine| {
            for told in acknowledged {
                let again = checkout(&engine, &told.key, &told.cart, told.method).await;
                let again =
                    again.unwrap_or_else(|refusal| panic!("crash {n}, law 3: {} {refusal:?}", told.key));
                assert!(again.replayed, "crash {n}, law 5: {}", told.key);
                assert_eq!(again.answer, told.answer, "crash {n}, law 5: {}", told.key);
            }
            let mut open = None;
            for _ in 0..400 {
                open = unfinished(&engine).await;
                if open.is_none() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(open, None, "crash {n}: some order never ends");
            for name in SKUS {
                let stock = stock(&engine, name).await;
                assert_eq!(stock.received, UNITS, "crash {n}, {name}");
                assert_eq!(stock.received, stock.on_hand + stock.sold, "crash {n}, law 1: {name}");
                assert_eq!(stock.available, stock.on_hand - stock.reserved, "crash {n}, law 1: {name}");
                assert!(stock.sellable >= 0, "crash {n}, law 1: {name}");
            }
        });
    }
    assert!(
        crashed.iter().any(|(acknowledged, _)| !acknowledged.is_empty()),
        "no crash came after an answer"
    );
}
