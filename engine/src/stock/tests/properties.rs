//! Laws 1, 2 and 10 of a SKU under random commands, against the [`Model`].

use proptest::prelude::*;

use super::model::{Ask, Model};
use super::{Bench, definition, describe};
use crate::identity::{OrderId, Position, ReservationId, Sku};
use crate::stock::{Home, Reserve, Stock, StockCommand};

/// Public reservations have ids below this, parts from here on: requests and sagas never share one.
const PARTS_FROM: u128 = 5;

const IDS: u128 = 10;

/// Behind every part: no step of this script is a late copy.
const NOW: Position = Position(u64::MAX);

fn command(ask: Ask, version: u64) -> StockCommand {
    match ask {
        Ask::Define { opening, limit, ttl_ms } => {
            StockCommand::Define { definition: definition(limit, ttl_ms), opening: Some(opening) }
        }
        Ask::Adjust { delta } => StockCommand::Adjust { delta, reason: "random".into(), reference: None },
        Ask::Set { on_hand, current_version } => StockCommand::SetOnHand {
            on_hand,
            reason: "random".into(),
            expected_version: if current_version { version } else { version + 1 },
        },
        Ask::Reserve { id, quantity, ttl_ms, partial, body: _ } => StockCommand::Reserve(Reserve {
            reservation: ReservationId(id),
            quantity,
            ttl_ms,
            partial,
            customer: None,
        }),
        Ask::Extend { id, extend_ms } => StockCommand::Extend { reservation: ReservationId(id), extend_ms },
        Ask::Commit { id } => StockCommand::Commit { reservation: ReservationId(id) },
        Ask::Release { id } => StockCommand::Release { reservation: ReservationId(id) },
        Ask::Expire { id } => StockCommand::Expire { reservation: ReservationId(id) },
        Ask::Hold { id, quantity, partial } => {
            let home = if id % 2 == 0 { Home::Order } else { Home::Reservation };
            StockCommand::HoldPart { reservation: ReservationId(id), quantity, partial, home }
        }
        Ask::Sell { id } => StockCommand::SellPart { reservation: ReservationId(id), as_of: NOW },
        Ask::Free { id } => StockCommand::FreePart { reservation: ReservationId(id), as_of: NOW },
        Ask::Restock { step, quantity } => StockCommand::Restock { step, quantity, order: OrderId(step) },
    }
}

fn any_ask() -> impl Strategy<Value = Ask> {
    let any_id = 0..IDS;
    let part = PARTS_FROM..IDS;
    let quantity = prop_oneof![4 => 1..8_i64, 1 => Just(crate::stock::QUANTITY_MAX)];
    let ttl_ms = prop_oneof![Just(None), (1..20_u64).prop_map(Some)];
    prop_oneof![
        1 => (0..10_i64, 0..6_i64, ttl_ms.clone()).prop_map(|(opening, limit, ttl_ms)| Ask::Define { opening, limit, ttl_ms }),
        2 => (-6..12_i64).prop_filter("a delta is not zero", |delta| *delta != 0).prop_map(|delta| Ask::Adjust { delta }),
        1 => (-4..12_i64, any::<bool>()).prop_map(|(on_hand, current_version)| Ask::Set { on_hand, current_version }),
        6 => (any_id.clone(), quantity.clone(), ttl_ms, any::<bool>(), 0..2_u64).prop_map(
            |(id, quantity, ttl_ms, partial, body)| Ask::Reserve { id, quantity, ttl_ms, partial, body }
        ),
        2 => (any_id.clone(), prop_oneof![1..30_u64, Just(86_400_000)]).prop_map(|(id, extend_ms)| Ask::Extend { id, extend_ms }),
        3 => any_id.clone().prop_map(|id| Ask::Commit { id }),
        2 => any_id.clone().prop_map(|id| Ask::Release { id }),
        3 => any_id.clone().prop_map(|id| Ask::Expire { id }),
        4 => (any_id, quantity.clone(), any::<bool>()).prop_map(|(id, quantity, partial)| Ask::Hold { id, quantity, partial }),
        3 => part.clone().prop_map(|id| Ask::Sell { id }),
        2 => part.prop_map(|id| Ask::Free { id }),
        3 => (0..4_u128, quantity).prop_map(|(step, quantity)| Ask::Restock { step, quantity }),
    ]
}

/// Mostly the same moment or the next few; now and then long enough that memories end.
fn any_pause_ms() -> impl Strategy<Value = u64> {
    prop_oneof![12 => 0..6_u64, 1 => 9_990..10_010_u64, 1 => Just(7 * 86_400_000)]
}

fn any_script() -> impl Strategy<Value = Vec<(Ask, u64)>> {
    let opening =
        (0..10_i64, 0..4_i64).prop_map(|(opening, limit)| Ask::Define { opening, limit, ttl_ms: None });
    (opening, prop::collection::vec((any_ask(), any_pause_ms()), 0..80)).prop_map(|(first, mut rest)| {
        rest.insert(rest.len().min(1), (first, 0));
        rest
    })
}

/// A codec as a checkpoint uses it: fixed width, so that sums do not change a row's length.
fn bytes(stock: &Stock) -> Vec<u8> {
    bincode::serde::encode_to_vec(stock, bincode::config::legacy()).unwrap()
}

fn stock(bytes: &[u8]) -> Stock {
    bincode::serde::decode_from_slice(bytes, bincode::config::legacy()).unwrap().0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Law 1 and law 2: the machine and the model agree on every outcome and on every figure after it.
    #[test]
    fn the_machine_does_what_the_naive_model_does(script in any_script()) {
        let mut bench = Bench::new();
        let mut model = Model::default();
        let mut now_ms = 1_000;
        for (ask, pause_ms) in script {
            now_ms += pause_ms;
            let body = if let Ask::Reserve { body, .. } = ask { body } else { 0 };
            let decision = bench.run(command(ask, bench.stock.version()), body, now_ms);
            prop_assert_eq!(describe(&decision), model.take(ask, now_ms), "{:?} at {}", ask, now_ms);
            let view = bench.stock.view();
            prop_assert_eq!(i128::from(view.received), model.received());
            prop_assert_eq!(i128::from(view.on_hand), model.on_hand());
            prop_assert_eq!(i128::from(view.reserved), model.reserved());
            prop_assert_eq!(i128::from(view.sold), model.sold());
            prop_assert_eq!(i128::from(view.sellable), model.sellable());
            prop_assert_eq!(view.version, model.version());
            prop_assert!(model.sellable() >= 0, "law 1");
            for id in 0..IDS {
                let held = bench.stock.holds.get(&ReservationId(id)).map(|hold| i128::from(hold.quantity));
                prop_assert_eq!(held, model.held(id), "law 2: who holds what");
            }
        }
    }

    /// Law 10: the same events from scratch give the same state, byte for byte.
    #[test]
    fn events_folded_again_give_the_same_bytes(script in any_script()) {
        let bench = run(&script);
        let mut again = Stock::new(Sku::new("X").unwrap());
        for ((event, recorded, request), folded) in bench.journal.iter().zip(&bench.folded) {
            prop_assert_eq!(&again.evolve(event, *recorded, *request), folded, "answers too (law 5)");
        }
        prop_assert_eq!(&again, &bench.stock);
        prop_assert_eq!(bytes(&again), bytes(&bench.stock));
    }

    /// Law 10: a checkpoint taken anywhere, with the tail after it, is as good as the whole journal.
    #[test]
    fn a_checkpoint_and_the_tail_give_the_same_bytes(script in any_script(), cut in any::<prop::sample::Index>()) {
        let bench = run(&script);
        let cut = cut.index(bench.journal.len() + 1);
        let mut state = Stock::new(Sku::new("X").unwrap());
        for (position, (event, recorded, request)) in bench.journal.iter().enumerate() {
            if position == cut {
                state = stock(&bytes(&state));
            }
            state.evolve(event, *recorded, *request);
        }
        let restored = stock(&bytes(&state));
        prop_assert_eq!(&restored, &bench.stock);
        prop_assert_eq!(bytes(&restored), bytes(&bench.stock));
    }
}

fn run(script: &[(Ask, u64)]) -> Bench {
    let mut bench = Bench::new();
    let mut now_ms = 1_000;
    for (ask, pause_ms) in script {
        now_ms += pause_ms;
        bench.run(command(*ask, bench.stock.version()), 0, now_ms);
    }
    bench
}
