//! `verify` finds what is wrong, names it, and changes nothing.

use std::fs;

use doorbuster_engine::event::{EntityKey, Event};
use doorbuster_engine::identity::{CartId, Fingerprint, OrderId, RefundId, RequestStamp, ReservationId};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::order::{DraftLine, OrderDraft, OrderEvent};
use doorbuster_engine::pricing::Totals;
use doorbuster_engine::stock::{Home, StockEvent};
use doorbuster_persistence::error::StartError;
use doorbuster_persistence::segment::segment_name;
use doorbuster_persistence::verify::{VerifyReport, verify};

use crate::shop::{Shop, sku, stamp};
use crate::support::last_segment;

fn laws_broken(path: &std::path::Path) -> Vec<u8> {
    verify(path, &mut |_| {}).unwrap().problems.iter().map(|problem| problem.law).collect()
}

#[test]
fn a_sound_directory_passes_and_says_what_was_checked() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(root.path());
    shop.trade(40);
    shop.checkpoint();
    shop.trade(5);
    let refused = verify(root.path(), &mut |_| {}).unwrap_err();
    assert!(matches!(refused, StartError::Locked { .. }), "{refused}");
    drop(shop);
    let report = verify(root.path(), &mut |_| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!((report.frames, report.records, report.entities["sku"]), (45, 135, 5));
    assert!(report.checkpoint_rows > 5 && report.segments > 1);
    for law in [1, 2, 3, 5, 9, 10, 11] {
        assert!(report.laws[law - 1].checks > 0, "law {law}");
    }
    assert_eq!(report.laws[3].checks, 0, "law 4 is not for bytes to show");
    assert!(report.laws[3].checked.is_none() && report.laws[3].not_seen.is_some());
    // One mark: its frame and each partition; and every row.
    assert_eq!(report.laws[2].checks, 1 + 256 + report.checkpoint_rows, "law 3");
    assert_eq!(
        (report.laws[8].events, report.laws[8].checks),
        (135, 180),
        "law 9: each record, and each frame"
    );
    assert_eq!((report.laws[9].events, report.laws[9].checks), (135, 135 + report.checkpoint_rows), "law 10");
    assert_eq!((report.schema, report.sound), (VerifyReport::SCHEMA, true));
    let text = bincode::serde::encode_to_vec(&report, bincode::config::standard()).unwrap();
    assert!(!text.is_empty());
}

type Wrong = fn(&mut Shop);

#[test]
fn each_wrong_is_found_under_its_law() {
    let root = tempfile::tempdir().unwrap();
    let rows: [(&str, u8, Wrong); 5] = [
        ("a reservation that ends twice", 2, |shop| {
            let entity = EntityKey::Sku(sku(1));
            let reservation = ReservationId(6);
            for _ in 0..2 {
                let event = StockEvent::Released { reservation };
                shop.record_unchecked(entity.clone(), Event::Stock(event), None);
            }
        }),
        ("units out of nothing", 1, |shop| {
            let event = StockEvent::Adjusted {
                delta: -200_000,
                reason: "theft".into(),
                reference: None,
                location: None,
            };
            shop.record_unchecked(EntityKey::Sku(sku(2)), Event::Stock(event), None);
        }),
        ("a key used for another body", 5, |shop| {
            let event =
                || StockEvent::Adjusted { delta: 1, reason: "x".into(), reference: None, location: None };
            let request = RequestStamp { fingerprint: Fingerprint(12345), ..stamp(7) };
            shop.record_unchecked(EntityKey::Sku(sku(2)), Event::Stock(event()), Some(stamp(7)));
            shop.record_unchecked(EntityKey::Sku(sku(2)), Event::Stock(event()), Some(request));
        }),
        ("a gap in a partition", 9, |shop| shop.skip_sequence(&EntityKey::Sku(sku(2)))),
        ("an event of another kind", 10, |shop| {
            let event = StockEvent::Released { reservation: ReservationId(6) };
            let cart = EntityKey::Cart(CartId(8));
            shop.record_unchecked(cart, Event::Stock(event), None);
        }),
    ];
    for (name, law, wrong) in rows {
        let path = root.path().join(name);
        let mut shop = Shop::open(&path);
        shop.trade(12);
        wrong(&mut shop);
        shop.flush();
        drop(shop);
        let report = verify(&path, &mut |_| {}).unwrap();
        assert!(report.problems.iter().any(|problem| problem.law == law), "{name}: {:?}", report.problems);
        let problem = &report.problems[0];
        assert!(problem.file.as_ref().is_some_and(|file| file.exists()), "{name}: {problem:?}");
        assert!(problem.offset.is_some(), "{name}");
    }
}

/// A shop whose order was asked to be paid, before the frame with which the answer comes.
fn shop_with_an_open_payment(path: &std::path::Path) -> Shop {
    let mut shop = Shop::open(path);
    shop.trade(12);
    let price = Money::new(100, Currency::GBP);
    let zero = Money::zero(Currency::GBP);
    let line = DraftLine { line: 1, sku: sku(1), name: "thing".into(), quantity: 1, unit_price: price };
    let draft = OrderDraft {
        order: ORDER,
        cart: CartId(8),
        lines: vec![line],
        totals: Totals { subtotal: price, discount: zero, shipping: zero, tax: zero, total: price },
        email: "ada@example.com".into(),
        provider: "stripe".into(),
        method: "pm_card_visa".into(),
        shipping_address: None,
        pin_ms: 900_000,
    };
    for event in [OrderEvent::Started(Box::new(draft)), OrderEvent::UnitsReserved] {
        shop.record(EntityKey::Order(ORDER), Event::Order(event), None);
    }
    shop.flush();
    shop
}

const ORDER: OrderId = OrderId(77);

/// Money held and order placed are two events of one turn, and so are a lost capture and the cancellation after it: between
/// them an order breaks law 7, and no start ever finds it there, for a frame holds all of a turn.
/// What a frame holds of an order.
type Frame = Vec<OrderEvent>;

#[test]
fn an_order_is_judged_where_a_turn_ends_not_within_it() {
    let root = tempfile::tempdir().unwrap();
    let authorized = || OrderEvent::PaymentAuthorized { reference: "pi_1".into() };
    let placed = || OrderEvent::Placed { reference: Some("pi_1".into()) };
    let lost = || OrderEvent::CaptureFailed { reason: "too late".into() };
    let refund = RefundId(77);
    let off =
        || [OrderEvent::CancelRequested { refund }, OrderEvent::RefundSucceeded { refund, reference: None }];
    let rows: [(&str, Vec<Frame>, &[u8]); 4] = [
        ("placed in the same frame", vec![vec![authorized(), placed()]], &[]),
        ("held, and never placed", vec![vec![authorized()]], &[7]),
        (
            "lost and called off in the same frame",
            vec![vec![authorized(), placed()], [vec![lost()], off().to_vec()].concat()],
            &[],
        ),
        ("lost, and never called off", vec![vec![authorized(), placed()], vec![lost()]], &[7]),
    ];
    for (name, frames, expected) in rows {
        let path = root.path().join(name);
        let mut shop = shop_with_an_open_payment(&path);
        for frame in frames {
            for event in frame {
                shop.record(EntityKey::Order(ORDER), Event::Order(event), None);
            }
            shop.flush();
        }
        drop(shop);
        let mut laws = laws_broken(&path);
        laws.dedup();
        assert_eq!(laws, expected, "{name}");
    }
}

#[test]
fn units_held_for_a_coordinator_that_never_was_are_found() {
    let root = tempfile::tempdir().unwrap();
    for (number, home) in [(1_u128, Home::Order), (2, Home::Reservation)] {
        let path = root.path().join(number.to_string());
        let mut shop = Shop::open(&path);
        shop.trade(12);
        let reservation = ReservationId(number);
        let held = StockEvent::PartHeld { reservation, quantity: 1, home };
        shop.record_unchecked(EntityKey::Sku(sku(1)), Event::Stock(held), None);
        shop.flush();
        drop(shop);
        assert_eq!(laws_broken(&path), [6], "{home:?}");
    }
}

#[test]
fn a_row_that_is_not_the_fold_is_found() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(root.path());
    shop.trade(10);
    shop.checkpoint();
    let mut row = shop.recovered.store.get(&EntityKey::Sku(sku(1))).unwrap().unwrap();
    // The state of an earlier moment under a later sequence.
    row.sequence -= 1;
    shop.recovered.store.put([row]).unwrap();
    shop.recovered.store.write_gathered().unwrap();
    drop(shop);
    assert_eq!(laws_broken(root.path()), [10]);
}

#[test]
fn damage_is_named_by_file_and_offset_and_a_torn_tail_is_none() {
    let root = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(root.path());
    shop.trade(60);
    let path = shop.path();
    drop(shop);
    let first = path.join("journal").join(segment_name(1));
    let whole = fs::read(&first).unwrap();
    let mut bytes = whole.clone();
    bytes[100] ^= 1;
    fs::write(&first, bytes).unwrap();
    let report = verify(&path, &mut |_| {}).unwrap();
    assert_eq!((report.problems.len(), report.problems[0].law), (1, 9));
    assert_eq!((report.problems[0].file.as_ref(), report.problems[0].offset), (Some(&first), Some(64)));
    fs::write(&first, &whole).unwrap();

    let (last, _) = last_segment(&path);
    let mut bytes = fs::read(&last).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end] ^= 1;
    fs::write(&last, &bytes).unwrap();
    let report = verify(&path, &mut |_| {}).unwrap();
    assert!(report.is_sound());
    assert_eq!(report.cut.unwrap().file, last);
    assert_eq!(fs::read(&last).unwrap(), bytes, "nothing is repaired here");
}
