//! Checkpoints in the rescue copy: what lies behind them goes, and what is left is enough (laws 3, 9 and 10).

use doorbuster_engine::world::Snapshot;
use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::recovery::recover;
use doorbuster_persistence::verify::verify;
use doorbuster_persistence::writer::Durability;
use doorbuster_postgres::rescue::shipper::ShipperOptions;

use crate::shop::{SEGMENTS, Shop, entity, restored, wait};
use crate::support::Database;

/// Trades, with rounds, until the copy's first batches are pruned; returns the records written.
fn trade_until_pruned(shop: &mut Shop, database: &Database) -> u64 {
    let options = ShipperOptions { checkpoint_bytes: 1, ..shop.options(&database.url) };
    let (shipper, _) = shop.ship_with(options);
    let first = || database.psql("SELECT coalesce(min(first_frame), 1) FROM doorbuster.rescue_batches");
    shop.trade(20);
    shop.wait_shipped(&shipper);
    let begun = first();
    wait(
        || {
            shop.trade(20);
            shop.checkpoint();
            std::thread::sleep(std::time::Duration::from_millis(100));
            first() != begun
        },
        || format!("{:?}", shipper.status().figures()),
    );
    shop.trade(7);
    shop.wait_shipped(&shipper);
    shipper.stop();
    shop.written
}

#[test]
fn a_pruned_copy_is_enough_also_for_a_copy_of_what_was_restored_from_it() {
    let root = tempfile::tempdir().unwrap();
    let database = Database::new();
    let mut shop = Shop::open(&root.path().join("lost"), Durability::Local);
    let written = trade_until_pruned(&mut shop, &database);
    let finished = "SELECT count(*) FROM doorbuster.rescue_checkpoints WHERE finished_at IS NOT NULL";
    assert_eq!(database.psql(finished), "2", "two are kept");
    drop(shop);

    let new = root.path().join("new");
    let report = restored(&database.url, new.clone()).unwrap();
    assert!(report.from_checkpoint.is_some() && report.restored.records < written, "{report:?}");
    assert_is(&new, written);

    // Its journal begins somewhere: a new database gets a checkpoint at once, or it would be of no use.
    let elsewhere = Database::new();
    let mut shop = Shop::open(&new, Durability::Local);
    shop.checkpoint();
    let (shipper, _) = shop.ship(&elsewhere.url);
    shop.trade(5);
    wait(|| shipper.status().figures().shipped == shop.journal.durable_frame(), String::new);
    wait(|| elsewhere.psql(finished) == "1", || "no checkpoint came".to_owned());
    shipper.stop();
    drop(shop);
    let last = root.path().join("last");
    restored(&elsewhere.url, last.clone()).unwrap();
    assert_is(&last, written + 5);

    // A page that was taken out of the copy is missed.
    elsewhere.psql("DELETE FROM doorbuster.rescue_pages WHERE page = 0");
    let refused = restored(&elsewhere.url, root.path().join("harmed")).unwrap_err();
    assert!(refused.to_string().contains("page 0"), "{refused}");
}

/// The directory is sound, and has every record in its state.
fn assert_is(root: &std::path::Path, written: u64) {
    let report = verify(root, &mut |_| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    let directory = DataDirectory::open(root).unwrap();
    let recovered = recover(&directory, SEGMENTS, &mut |_| {}).unwrap();
    assert_eq!(recovered.sequences[usize::from(entity().partition())], written);
    let Some(Snapshot::Stock(stock)) = recovered.world.entities.get(&entity()) else { panic!("no SKU") };
    let received = i64::try_from(written).unwrap() + 99;
    assert_eq!(stock.view().received, received, "law 1: each record after the first brought one unit");
}
