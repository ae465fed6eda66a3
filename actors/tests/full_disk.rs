//! A disk without room for the journal: refusals that promise nothing, and on it goes when room returns.

use std::path::Path;

use doorbuster_engine::answer::Refusal;

use crate::harness::{cart, checkout, define, eventually, reserve, stock, with_engine, with_options};

/// The names under which the next segments would be prepared, taken by something else: no file can be made there, which
/// is what a full disk comes to for the journal.
fn stuff(journal: &Path) -> Vec<std::path::PathBuf> {
    let names = (1..600).map(|number| journal.join(format!("{number}.preparing")));
    names.filter(|path| std::fs::OpenOptions::new().write(true).create_new(true).open(path).is_ok()).collect()
}

#[test]
fn a_full_journal_refuses_and_goes_on_when_room_returns() {
    let data = tempfile::tempdir().unwrap();
    let small = |options: &mut doorbuster_actors::EngineOptions| options.segment_bytes = 256 << 10;
    let (granted, sold) = with_options(data.path(), small, async |engine| {
        define(&engine, "TEE", 1_000_000).await;
        let carts: Vec<_> = {
            let mut carts = Vec::new();
            for n in 0..40 {
                carts.push(cart(&engine, &format!("cart {n}"), &[("TEE", 1)]).await);
            }
            carts
        };
        let stuffed = stuff(&data.path().join("journal"));
        let clients: Vec<_> = (0..40)
            .map(|client| {
                let (engine, cart) = (engine.clone(), carts[client].clone());
                actix_rt::spawn(async move {
                    let mut granted = 0;
                    for attempt in 0.. {
                        if attempt == 20 {
                            // Some of these sagas are caught midway by the lack of room.
                            let (engine, cart) = (engine.clone(), cart.clone());
                            actix_rt::spawn(async move {
                                checkout(&engine, &format!("pay {client}"), &cart, "ok").await
                            });
                        }
                        match reserve(&engine, &format!("{client} {attempt}"), &[("TEE", 1)], None).await {
                            Ok(_) => granted += 1,
                            Err(Refusal::StorageFull { .. }) => {
                                return (granted, format!("{client} {attempt}"));
                            }
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                    unreachable!("the journal fills up")
                })
            })
            .collect();
        let (mut granted, mut refused) = (0, Vec::new());
        for client in clients {
            let (count, key) = client.await.unwrap();
            granted += count;
            refused.push(key);
        }
        assert!(stock(&engine, "TEE").await.on_hand > 0, "reads go on");
        for path in stuffed {
            std::fs::remove_file(path).unwrap();
        }
        for key in refused {
            eventually("there is room again", async || {
                match reserve(&engine, &key, &[("TEE", 1)], None).await {
                    Ok(reply) => {
                        assert!(!reply.replayed, "law 4: the refused one was no attempt");
                        true
                    }
                    Err(Refusal::StorageFull { .. }) => false,
                    Err(other) => panic!("{other:?}"),
                }
            })
            .await;
            granted += 1;
        }
        // A checkout refused for want of room is a new attempt; one that was under way has gone on.
        for (client, cart) in carts.iter().enumerate() {
            let mut refusals = std::collections::BTreeMap::<String, u32>::new();
            eventually("the checkout ends", async || {
                match checkout(&engine, &format!("pay {client}"), cart, "ok").await {
                    Ok(_) => true,
                    Err(refusal) => {
                        let times = refusals.entry(format!("{refusal:?}")).or_default();
                        *times += 1;
                        assert!(*times < 1_999, "client {client}: {refusals:?}");
                        false
                    }
                }
            })
            .await;
        }
        eventually("every order's unit is sold", async || stock(&engine, "TEE").await.sold == 40).await;
        let seen = stock(&engine, "TEE").await;
        assert_eq!(
            (seen.reserved, seen.on_hand),
            (granted, 1_000_000 - 40),
            "law 4: no refused one took effect"
        );
        (granted, seen.sold)
    });
    with_engine(data.path(), async |engine| {
        let seen = stock(&engine, "TEE").await;
        assert_eq!((seen.reserved, seen.sold), (granted, sold), "law 3");
    });
}
