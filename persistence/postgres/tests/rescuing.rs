//! The rescue copy over a real Postgres: laws 3 and 9 while everything between the journal and the copy fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::writer::Durability;
use doorbuster_postgres::rescue::error::RescueError;
use doorbuster_postgres::rescue::restoring::SecretsFrom;
use doorbuster_postgres::rescue::sealing::RescueKey;
use doorbuster_postgres::rescue::shipper::ShipperOptions;
use doorbuster_postgres::rescue::status::Standing;
use doorbuster_servers::postgres::Postgres;

use crate::shop::{Shop, assert_sound, copy_directory, key, restored, restored_with, wait};
use crate::support::Database;

#[test]
fn a_lost_directory_comes_back_with_its_secrets_and_the_old_one_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let database = Database::new();
    let mut shop = Shop::open(&root.path().join("lost"), Durability::Local);
    shop.trade(50);
    let (shipper, fenced) = shop.ship(&database.url);
    shop.trade(250);
    shop.wait_shipped(&shipper);
    let figures = shipper.status().figures();
    assert_eq!((figures.epoch, figures.standing, figures.lag_bytes), (1, Standing::Shipping, 0));
    let secret = shop.directory.secret("server").unwrap();
    let plain = u128::from_be_bytes(secret[..16].try_into().unwrap());
    let found = format!(
        "SELECT position('\\x{plain:032x}'::bytea IN sealed), octet_length(sealed) FROM doorbuster.rescue_secrets"
    );
    let sealed = database.psql(&found);
    assert!(sealed.starts_with("0|") && sealed.len() > 3, "secrets are never there in plain text: {sealed}");

    let drill = root.path().join("drill");
    let report = restored_with(&database.url, drill.clone(), SecretsFrom::Key(key()), true).unwrap();
    assert_eq!((report.epoch, report.restored.last_frame), (1, shop.journal.durable_frame()));
    assert_sound(&drill, 300);
    shop.trade(1);
    shop.wait_shipped(&shipper);
    assert!(!fenced.load(Ordering::SeqCst), "a drill takes nothing over");

    let new = root.path().join("new");
    let report = restored(&database.url, new.clone()).unwrap();
    assert_eq!((report.epoch, report.from_checkpoint), (2, None));
    assert_eq!((report.restored.records, report.secrets), (301, 1));
    assert_sound(&new, 301);
    shop.trade(5);
    wait(|| fenced.load(Ordering::SeqCst), || format!("{:?}", shipper.status().figures()));
    assert!(shipper.status().figures().trouble.unwrap().contains("since epoch 2"));
    drop(shipper);
    assert_eq!(
        database.psql("SELECT max(last_frame) FROM doorbuster.rescue_batches"),
        report.restored.last_frame.to_string()
    );

    let mut shop = Shop::open(&new, Durability::Local);
    assert_eq!(shop.directory.secret("server").unwrap(), secret);
    let (shipper, fenced) = shop.ship(&database.url);
    shop.trade(20);
    shop.wait_shipped(&shipper);
    shipper.stop();
    assert!(!fenced.load(Ordering::SeqCst));
    let drilled = Shop::open(&drill, Durability::Local);
    let (shipper, fenced) = drilled.ship(&database.url);
    wait(|| fenced.load(Ordering::SeqCst), || "a drill's directory ships".to_owned());
    drop(shipper);
    let last = root.path().join("last");
    assert_eq!(restored(&database.url, last.clone()).unwrap().epoch, 3);
    assert_sound(&last, 321);
}

#[test]
fn every_frame_is_shipped_once_while_postgres_and_the_shipper_are_killed() {
    let root = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start().unwrap();
    let url = postgres.fresh_database("shop").unwrap();
    let mut shop = Shop::open(&root.path().join("lost"), Durability::Local);
    let mut shipper = None;
    for round in 0..6 {
        let (running, _) = shop.ship(&url);
        let running = shipper.insert(running);
        shop.trade(40);
        match round % 3 {
            0 => postgres.kill().unwrap(),
            1 => postgres.pause(),
            _ => {
                postgres.psql("shop", "ALTER DATABASE shop SET default_transaction_read_only = on").unwrap();
                let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'doorbuster rescue'";
                postgres.psql("shop", end).unwrap();
            }
        }
        let began = Instant::now();
        shop.trade(40);
        assert!(began.elapsed() < Duration::from_secs(20), "nobody who sells waits for the copy");
        match round % 3 {
            0 => postgres.run().unwrap(),
            1 => postgres.resume(),
            _ => {
                let take_back = "SET default_transaction_read_only = off; ALTER DATABASE shop RESET default_transaction_read_only";
                postgres.psql("postgres", take_back).unwrap();
            }
        }
        if round % 2 == 0 {
            shop.wait_shipped(running);
        }
        // Its death is like a kill to the copy: what it had in hand is told by the owner's row.
        shipper = None;
    }
    let (last, _) = shop.ship(&url);
    shop.wait_shipped(&last);
    last.stop();
    let count = postgres.psql(
        "shop",
        "SELECT sum(last_frame - first_frame + 1), sum(records) FROM doorbuster.rescue_batches",
    );
    assert_eq!(count.unwrap(), "480|480");
    let new = root.path().join("new");
    restored(&url, new.clone()).unwrap();
    assert_sound(&new, 480);
}

#[test]
fn replicated_answers_wait_for_postgres_and_nothing_acknowledged_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start().unwrap();
    let url = postgres.fresh_database("shop").unwrap();
    let mut shop = Shop::open(&root.path().join("lost"), Durability::Replicated);
    let options = ShipperOptions { is_replicated: true, ..shop.options(&url) };
    let (shipper, _) = shop.ship_with(options);
    shop.trade(100);
    let acknowledged = Arc::clone(&shop.acknowledged);
    wait(|| acknowledged.load(Ordering::SeqCst) == 100, || format!("{:?}", shipper.status().figures()));
    // Nothing is in hand any more: what is confirmed from here on was confirmed too early.
    shop.wait_shipped(&shipper);
    let patience = Duration::from_secs(3);
    assert!(shipper.status().is_confirming(patience));
    postgres.pause();
    shop.trade(30);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(shop.acknowledged.load(Ordering::SeqCst), 100, "law 3: it is on one machine only");
    // The shipper looks at the journal's end now and then; on a busy machine that may be later than the sleep above.
    let notices = || !shipper.status().is_confirming(Duration::from_millis(100));
    wait(notices, || format!("{:?}", shipper.status().figures()));
    postgres.resume();
    wait(|| acknowledged.load(Ordering::SeqCst) == 130, || format!("{:?}", shipper.status().figures()));
    // The disk is lost in the middle of it, and Postgres with a kill at the same moment.
    for _ in 0..400 {
        shop.submit();
    }
    wait(|| acknowledged.load(Ordering::SeqCst) > 200, || format!("{:?}", shipper.status().figures()));
    postgres.kill().unwrap();
    let promised = shop.acknowledged.load(Ordering::SeqCst);
    postgres.run().unwrap();
    let new = root.path().join("new");
    let report = restored(&url, new.clone()).unwrap();
    assert!(report.restored.records >= promised, "{report:?} lacks some of {promised}");
    assert_sound(&new, report.restored.records);
    // The old machine is back, and can acknowledge nothing any more.
    let before = shop.acknowledged.load(Ordering::SeqCst);
    assert!(before <= report.restored.records, "law 3: {before} acknowledged");
    shop.trade(10);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(shop.acknowledged.load(Ordering::SeqCst), before);
}

#[test]
fn a_copy_that_was_tampered_with_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let database = Database::new();
    let mut shop = Shop::open(&root.path().join("lost"), Durability::Local);
    let (shipper, _) = shop.ship(&database.url);
    for _ in 0..8 {
        shop.trade(30);
        shop.wait_shipped(&shipper);
    }
    shipper.stop();
    let batches: u64 = database.psql("SELECT count(*) FROM doorbuster.rescue_batches").parse().unwrap();
    assert!(batches >= 8);
    let middle = "(SELECT first_frame FROM doorbuster.rescue_batches ORDER BY 1 OFFSET 3 LIMIT 1)";
    for (what, sql) in [
        ("a batch cannot be taken out", format!("DELETE FROM doorbuster.rescue_batches WHERE first_frame = {middle}")),
        (
            "a batch cannot be there twice",
            format!(
                "INSERT INTO doorbuster.rescue_batches SELECT first_frame + 1, last_frame, first_frame, epoch, \
                 previous_checksum, checksum, records, raw_bytes, form, hash, payload FROM doorbuster.rescue_batches \
                 WHERE first_frame = {middle}"
            ),
        ),
        (
            "a batch cannot stand apart",
            "INSERT INTO doorbuster.rescue_batches SELECT first_frame + 9000, last_frame + 9000, first_frame + 8999, epoch, \
             previous_checksum, checksum, records, raw_bytes, form, hash, payload FROM doorbuster.rescue_batches LIMIT 1"
                .to_owned(),
        ),
    ] {
        assert!(database.cluster.psql(&database.name, &sql).is_err(), "law 9: {what}");
    }
    let harms = [
        ("payload", format!("UPDATE doorbuster.rescue_batches SET payload = set_byte(payload, 40, 255 - get_byte(payload, 40)) WHERE first_frame = {middle}"), "is damaged"),
        ("missing", format!("SET session_replication_role = replica; DELETE FROM doorbuster.rescue_batches WHERE first_frame = {middle}"), "is due, but frames"),
        ("the end is missing", "SET session_replication_role = replica; DELETE FROM doorbuster.rescue_batches WHERE last_frame = (SELECT max(last_frame) FROM doorbuster.rescue_batches)".to_owned(), "is due, but frames none"),
    ];
    for (label, sql, words) in harms {
        database.psql(&format!("CREATE TABLE kept AS TABLE doorbuster.rescue_batches; {sql}"));
        let refused =
            restored_with(&database.url, root.path().join(label), SecretsFrom::Key(key()), true).unwrap_err();
        assert!(refused.to_string().contains(words), "{label}: {refused}");
        assert!(!root.path().join(label).join("FORMAT").exists(), "{label}: it is no data directory");
        database.psql(
            "SET session_replication_role = replica; TRUNCATE doorbuster.rescue_batches; \
             INSERT INTO doorbuster.rescue_batches SELECT * FROM kept; DROP TABLE kept",
        );
    }
    let new = root.path().join("new");
    restored(&database.url, new.clone()).unwrap();
    assert_sound(&new, 240);
}

#[test]
fn what_does_not_belong_together_is_refused_with_its_remedy_and_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let database = Database::new();
    let nothing = restored(&database.url, root.path().join("early")).unwrap_err();
    assert!(nothing.to_string().contains("doorbuster migrate"), "{nothing}");
    let mut shop = Shop::open(&root.path().join("lost"), Durability::Local);
    let without = ShipperOptions { secrets: None, ..shop.options(&database.url) };
    let (shipper, _) = shop.ship_with(without);
    shop.trade(30);
    shop.wait_shipped(&shipper);
    shipper.stop();
    let refused = restored(&database.url, root.path().join("no-secrets")).unwrap_err();
    assert!(matches!(refused, RescueError::NoSecrets), "{refused}");
    let report =
        restored_with(&database.url, root.path().join("without"), SecretsFrom::Nowhere, true).unwrap();
    assert_eq!(report.secrets, 0);
    let kept = shop.directory.paths().root.join("secrets");
    let from = root.path().join("from");
    restored_with(&database.url, from.clone(), SecretsFrom::Directory(kept), true).unwrap();
    let secret = DataDirectory::open(&from).unwrap().secret("server").unwrap();
    assert_eq!(secret, shop.directory.secret("server").unwrap());
    let (shipper, _) = shop.ship(&database.url);
    shop.wait_shipped(&shipper);
    wait(|| shipper.status().figures().sessions > 0, String::new);
    shipper.stop();
    let wrong = RescueKey::of(b"another key of the same length !").unwrap();
    for (label, secrets, words) in [
        ("wrong key", SecretsFrom::Key(wrong), "another key"),
        ("no key", SecretsFrom::Unsaid, "--rescue-key-file"),
        ("no such directory", SecretsFrom::Directory(root.path().join("nowhere")), "cannot be used"),
    ] {
        let place = root.path().join(label);
        let refused = restored_with(&database.url, place.clone(), secrets, false).unwrap_err();
        assert!(refused.to_string().contains(words) && !place.exists(), "{label}: {refused}");
    }
    assert_eq!(database.psql("SELECT epoch FROM doorbuster.rescue_owner"), "1", "nothing was taken over");
    let full = restored(&database.url, root.path().join("from")).unwrap_err();
    assert!(full.to_string().contains("overwrites nothing"), "{full}");
    assert_eq!(database.psql("SELECT epoch FROM doorbuster.rescue_owner"), "1");

    let refusal = |shop: &Shop| {
        let options = ShipperOptions { secrets: None, ..shop.options(&database.url) };
        let (shipper, _) = shop.ship_with(options);
        let is_refused = || shipper.status().figures().standing == Standing::Refused;
        wait(is_refused, || "it ships".to_owned());
        shipper.status().figures().trouble.unwrap()
    };
    let other = Shop::open(&root.path().join("other"), Durability::Local);
    let told = refusal(&other);
    assert!(told.contains(&shop.engine().to_string()) && told.contains("a database of its own"), "{told}");
    // An older state of the same directory, and one that went its own way.
    let older = root.path().join("older");
    copy_directory(&shop.directory.paths().root, &older);
    shop.trade(20);
    let (shipper, _) = shop.ship(&database.url);
    shop.wait_shipped(&shipper);
    shipper.stop();
    let mut older = Shop::open(&older, Durability::Local);
    let told = refusal(&older);
    assert!(told.contains("the journal ends at frame 30"), "{told}");
    older.written += 7;
    older.trade(25);
    let told = refusal(&older);
    assert!(told.contains("is not the one in the rescue copy"), "{told}");
}
