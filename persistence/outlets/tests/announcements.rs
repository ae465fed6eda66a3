//! Announcements as a function of the journal: law 10 wherever the fold was cut, a schema for each, nothing private in any.

use std::collections::{BTreeMap, BTreeSet};

use doorbuster_engine::cart::CartEvent;
use doorbuster_engine::identity::Timestamp;
use doorbuster_engine::world::Snapshot;
use doorbuster_outlets::announcement::{Announcement, Happened, Herald, KINDS, Source, Subject};
use doorbuster_persistence::codec;
use doorbuster_persistence::frame::FrameNumber;
use serde_json::Value;

use crate::schema::check;
use crate::shop::{ENGINE, FATES, Fate, Frame, Shop};

const BEGIN_MS: u64 = 1_790_000_000_000;

fn fold(herald: &mut Herald, frames: &[Frame]) -> Vec<Announcement> {
    let mut told = Vec::new();
    for (_, body) in frames {
        for record in codec::records(body) {
            herald.fold(&record.unwrap(), &mut |announcement| told.push(announcement)).unwrap();
        }
    }
    told
}

fn json(announcement: &Announcement) -> Value {
    announcement.cloud_event(Source { engine: ENGINE })
}

#[test]
fn every_kind_is_told_and_keeps_to_its_schema() {
    let told = fold(&mut Herald::default(), &Shop::sample(BEGIN_MS).frames);
    let mut kinds = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for announcement in &told {
        let kind = announcement.happened.kind();
        let path = format!("{}/../../docs/schemas/{kind}.v1.json", env!("CARGO_MANIFEST_DIR"));
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let event = json(announcement);
        check(&schema, &event).unwrap_or_else(|offence| panic!("{kind}: {offence}\n{event:#}"));
        kinds.insert(kind);
        assert!(ids.insert(announcement.id()), "an id twice: {}", announcement.id());
        let text = event.to_string();
        for private in
            ["ada@", "tok_", "ch_", "evt_secret", "Secret Street", "GB123", "no such card", "ran out"]
        {
            assert!(!text.contains(private), "{private} in {text}");
        }
    }
    assert_eq!(kinds, KINDS.into_iter().collect::<BTreeSet<_>>());
    let files =
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schemas")).unwrap().count();
    assert_eq!(files, KINDS.len(), "one schema a kind");
    assert!(
        ids.iter().is_sorted() && told.iter().map(Announcement::id).is_sorted(),
        "ids order as they come"
    );
}

#[test]
fn sequence_numbers_have_no_gap_and_figures_are_the_engines() {
    let shop = Shop::sample(BEGIN_MS);
    let mut herald = Herald::default();
    let mut last: BTreeMap<String, u32> = BTreeMap::new();
    let mut refunds: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for announcement in fold(&mut herald, &shop.frames) {
        if let Happened::OrderRefunded { amount, refunded, in_full, .. } = &announcement.happened {
            let told = refunds.entry(announcement.subject.to_string()).or_default();
            *told = (told.0 + amount.unwrap().amount, refunded.unwrap().amount);
            assert_eq!(*in_full, Some(told.1 == 3_998), "all that was paid");
        }
        let next = last.entry(announcement.subject.to_string()).or_default();
        *next += 1;
        assert_eq!(announcement.sequence, Some(*next), "{announcement:?}");
    }
    assert!(last.values().any(|count| *count > 4), "{last:?}");
    let mut orders = 0;
    for (entity, snapshot) in &shop.world.entities {
        match snapshot {
            Snapshot::Stock(stock) => {
                let view = stock.view();
                let figures = herald.figures(view.sku.as_str());
                assert_eq!(figures, Some((view.on_hand, view.reserved)), "{entity}");
            }
            Snapshot::Order(order) => {
                let view = order.view();
                let told = refunds.get(&view.id.to_string()).copied().unwrap_or((0, 0));
                assert_eq!(told, (view.refunded.amount, view.refunded.amount), "{entity}: sum and total");
                orders += usize::from(view.refunded.amount > 0);
            }
            Snapshot::Reservation(_) | Snapshot::Cart(_) => {}
        }
    }
    assert_eq!(orders, 3, "orders with refunds");
}

/// What is said of an order, by its fate, after `order.created`; `failed` with its reason, `cancelled` too.
const TOLD: [(Fate, &str); 18] = [
    (Fate::OutOfStock, "cancelled:OutOfStock"),
    (Fate::Declined, "failed:declined cancelled:PaymentDeclined"),
    (Fate::TimedOut, "failed:voided cancelled:PaymentTimedOut"),
    (Fate::CalledOff, "failed:voided cancelled:Requested"),
    (Fate::Paid, "succeeded paid"),
    (Fate::Completed, "succeeded paid fulfilled completed"),
    (Fate::RefundedInParts, "succeeded paid refunded refunded"),
    (Fate::CancelledLater, "succeeded paid refunded refunded cancelled:Requested"),
    (Fate::RefundFails, "succeeded paid refund_failed"),
    (Fate::Captured, "paid succeeded"),
    (Fate::CancelledWhileAuthorized, "paid failed:voided cancelled:Requested"),
    (Fate::CaptureIsQuicker, "paid succeeded refunded cancelled:Requested"),
    (Fate::CaptureFails, "paid failed:declined cancelled:PaymentDeclined"),
    (Fate::WaitsAndPays, "paid succeeded"),
    (Fate::WaitsInVain, "failed:voided cancelled:PaymentTimedOut"),
    (Fate::CalledOffWaiting, "failed:voided cancelled:Requested"),
    (Fate::ActsAndIsToldOf, "paid succeeded"),
    (Fate::ComesTooLate, "failed:declined cancelled:PaymentDeclined"),
];

fn in_a_word(happened: &Happened) -> String {
    let word = happened.kind().split('.').nth(1).unwrap();
    if let Happened::OrderCancelled { reason } = happened {
        return format!("{word}:{reason:?}");
    }
    if let Happened::PaymentFailed { declined_retryable, .. } = happened {
        return format!("{word}:{}", if declined_retryable.is_some() { "declined" } else { "voided" });
    }
    word.to_owned()
}

#[test]
fn each_fate_of_an_order_is_told_in_its_words_and_a_payment_ends_once() {
    assert_eq!(TOLD.map(|(fate, _)| fate), FATES);
    for (fate, words) in TOLD {
        // Also where the first frames are not at hand: then its beginning lacks.
        for from in [0, 2] {
            let mut shop = Shop::open(BEGIN_MS);
            let begun = shop.frames.len();
            shop.order(fate);
            shop.flush();
            let told = fold(&mut Herald::default(), &shop.frames[begun + from..]);
            let orders = told.iter().filter(|announcement| matches!(announcement.subject, Subject::Order(_)));
            let mut heard: Vec<String> =
                orders.map(|announcement| in_a_word(&announcement.happened)).collect();
            let expected: Vec<&str> = words.split(' ').collect();
            if from == 0 {
                assert_eq!(heard.remove(0), "created", "{fate:?}");
            }
            match (from, fate) {
                (2, Fate::OutOfStock) => assert_eq!(heard, [""; 0], "it ended before that"),
                _ => assert_eq!(heard, expected, "{fate:?}, from frame {from}"),
            }
            let ends = heard.iter().filter(|word| word.starts_with("failed") || *word == "succeeded").count();
            assert!(ends == 1 || fate == Fate::OutOfStock, "{fate:?}: a payment ends once: {heard:?}");
        }
    }
}

#[test]
fn a_fold_cut_anywhere_tells_the_same() {
    let shop = Shop::sample(BEGIN_MS);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("memory");
    // Also with a memory so short that it forgets.
    for (orders, carts) in [(1_000, 1_000), (2, 1)] {
        let fresh = || Herald::remembering(orders, carts);
        let whole = fold(&mut fresh(), &shop.frames);
        for cut in 0..=shop.frames.len() {
            let mut before = fresh();
            let mut told = fold(&mut before, &shop.frames[..cut]);
            let at = FrameNumber(u64::try_from(cut).unwrap());
            before.keep(&file, ENGINE, at).unwrap();
            let (mut after, frame) = fresh().recall(&file, ENGINE).unwrap().unwrap();
            assert_eq!(frame, at);
            told.extend(fold(&mut after, &shop.frames[cut..]));
            assert_eq!(told, whole, "cut at frame {cut}, {orders} orders kept");
        }
    }
}

#[test]
fn what_was_forgotten_is_told_without_its_number() {
    let mut shop = Shop::open(BEGIN_MS);
    let begun = shop.frames.len();
    for fate in FATES {
        shop.order(fate);
        shop.flush();
    }
    let cart = shop.cart(vec![]);
    shop.flush();
    shop.in_cart(cart, CartEvent::Expired);
    shop.flush();
    let mut herald = Herald::remembering(1, 1);
    // The first frames of the journal are gone.
    let told = fold(&mut herald, &shop.frames[begun + 3..]);
    assert!(told.iter().all(|announcement| announcement.sequence != Some(0)));
    let mut late = Herald::default();
    let last = &shop.frames[shop.frames.len() - 1..];
    let told = fold(&mut late, last);
    assert!(
        matches!(&told[..], [Announcement { happened: Happened::CartAbandoned { lines: None, .. }, .. }]),
        "{told:?}"
    );
    for announcement in &told {
        let kind = announcement.happened.kind();
        let path = format!("{}/../../docs/schemas/{kind}.v1.json", env!("CARGO_MANIFEST_DIR"));
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        check(&schema, &json(announcement)).unwrap();
    }
}

#[test]
fn a_flapping_sku_is_told_of_ten_times_at_once_then_once_a_second_and_its_last_level_stands() {
    let mut shop = Shop::open(BEGIN_MS);
    shop.flap(500);
    let until = shop.at_ms;
    shop.at_ms += 10_000;
    shop.adjust("MUG", 1);
    shop.flush();
    let told = fold(&mut Herald::default(), &shop.frames);
    let hot: Vec<_> = told.iter().filter(|announcement| announcement.subject.to_string() == "HOT").collect();
    let seconds = usize::try_from((until - BEGIN_MS) / 1_000).unwrap();
    assert!((10..=10 + seconds + 1).contains(&hot.len()), "{} in {seconds} s of flapping", hot.len());
    let last = hot.last().unwrap();
    assert!(matches!(last.happened, Happened::InventoryRestocked(..)), "the unit is back: {last:?}");
    assert!(last.at >= Timestamp(until - 1_000));
    for pair in hot.windows(2) {
        assert_ne!(pair[0].happened.kind(), pair[1].happened.kind(), "a level is told when it changed");
    }
}

#[test]
fn a_damaged_memory_is_told_and_never_used() {
    let shop = Shop::sample(BEGIN_MS);
    let mut herald = Herald::default();
    fold(&mut herald, &shop.frames);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("memory");
    assert!(Herald::default().recall(&file, ENGINE).unwrap().is_none(), "no memory is no error");
    herald.keep(&file, ENGINE, FrameNumber(9)).unwrap();
    let sound = std::fs::read(&file).unwrap();
    let other = doorbuster_persistence::directory::EngineId([8; 16]);
    assert!(Herald::default().recall(&file, other).is_err(), "another engine's");
    for place in (0..sound.len()).step_by(7) {
        let mut bytes = sound.clone();
        bytes[place] ^= 0x10;
        std::fs::write(&file, &bytes).unwrap();
        assert!(Herald::default().recall(&file, ENGINE).is_err(), "byte {place} flipped");
        std::fs::write(&file, &sound[..place]).unwrap();
        assert!(Herald::default().recall(&file, ENGINE).is_err(), "cut to {place}");
    }
}
