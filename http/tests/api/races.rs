//! Everybody at once: never one unit too many, never none where one could be.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use serde_json::json;

use super::harness::{Shop, eventually, post};

/// 64 clients × 200 attempts on 1,000 units: exactly 1,000 are granted, each loser is told 409.
#[test]
fn exactly_as_many_units_are_granted_as_there_are() {
    let shop = Shop::open();
    shop.stock("HOT", 1_000);
    let (granted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..64 {
            let (shop, granted, refused) = (&shop, &granted, &refused);
            scope.spawn(move || {
                let mut connection = shop.connect();
                for attempt in 0..200 {
                    let request = post("/v1/reservations")
                        .key(&format!("c{client}-{attempt}"))
                        .json(json!({"items": [{"sku": "HOT", "quantity": 1}]}));
                    let answer = connection.send(request);
                    match answer.status {
                        201 => granted.fetch_add(1, Ordering::Relaxed),
                        409 => refused.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other}: {}", answer.text()),
                    };
                }
            });
        }
    });
    assert_eq!((granted.into_inner(), refused.into_inner()), (1_000, 64 * 200 - 1_000));
    let stock = shop.stock_of("HOT");
    assert_eq!((&stock["reserved"], &stock["sellable"]), (&json!(1_000), &json!(0)));
}

/// Two carts that both want the last X and the last Y: exactly one wins each time.
#[test]
fn of_two_carts_after_the_last_units_exactly_one_wins() {
    const ROUNDS: usize = 1_000;
    let shop = Shop::open();
    let barrier = Arc::new(Barrier::new(2));
    for round in 0..ROUNDS {
        let (x, y) = (format!("X{round}"), format!("Y{round}"));
        shop.stock(&x, 1);
        shop.stock(&y, 1);
        let carts = [shop.cart(&[(&x, 1), (&y, 1)]), shop.cart(&[(&y, 1), (&x, 1)])];
        let statuses = std::thread::scope(|scope| {
            let tries: Vec<_> = carts
                .iter()
                .map(|cart| {
                    let (shop, barrier) = (&shop, Arc::clone(&barrier));
                    scope.spawn(move || {
                        let mut connection = shop.connect();
                        let request = Shop::checkout(cart, "ok");
                        barrier.wait();
                        connection.send(request).status
                    })
                })
                .collect();
            let mut statuses: Vec<_> = tries.into_iter().map(|one| one.join().unwrap()).collect();
            statuses.sort_unstable();
            statuses
        });
        assert_eq!(statuses, [201, 409], "round {round}");
        for sku in [&x, &y] {
            eventually("sale", || {
                Some(shop.stock_of(sku)).filter(|stock| stock["sold"] == 1 && stock["reserved"] == 0)
            });
        }
    }
}

/// The same key from many sides at once: one effect, one answer.
#[test]
fn a_key_used_by_many_at_once_has_one_effect() {
    let shop = Shop::open();
    shop.stock("A", 100);
    let barrier = Barrier::new(16);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..16)
            .map(|_| {
                let (shop, barrier) = (&shop, &barrier);
                scope.spawn(move || {
                    let mut connection = shop.connect();
                    barrier.wait();
                    connection.send(
                        post("/v1/reservations")
                            .key("one")
                            .json(json!({"items": [{"sku": "A", "quantity": 3}]})),
                    )
                })
            })
            .collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let first = answers.iter().find(|answer| answer.status == 201).expect("one is answered").text();
    for answer in &answers {
        assert!(answer.status == 201 && answer.text() == first || answer.status == 409, "{}", answer.text());
    }
    assert_eq!(shop.stock_of("A")["reserved"], 3);
}
