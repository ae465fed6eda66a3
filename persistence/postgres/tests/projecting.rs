//! Law 10: the projection is the journal folded, each event applied exactly once, in order, whatever is killed meanwhile.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use doorbuster_postgres::connection::Connection;
use doorbuster_postgres::migrations::migrate;
use doorbuster_postgres::projection::error::ProjectionError;
use doorbuster_postgres::projection::projector::Projector;
use doorbuster_postgres::projection::rebuild::{Comparison, compare, rebuild, rebuild_in_batches};
use doorbuster_postgres::settings::DatabaseSettings;
use doorbuster_servers::postgres::Postgres;
use doorbuster_servers::proxy::{Proxy, Weather};

use crate::bazaar::{Bazaar, Chance};
use crate::support::{Database, run};

async fn migrated(settings: &DatabaseSettings) -> Connection {
    let mut connection = settings.connect().await.unwrap();
    migrate(&mut connection).await.unwrap();
    connection
}

/// Tables and journal side by side.
fn side_by_side(settings: &DatabaseSettings, shop: &Bazaar) -> Result<Comparison, ProjectionError> {
    run(async {
        let mut connection = settings.connect().await.unwrap();
        compare(&mut connection, &shop.directory, &mut |_| {}).await
    })
}

#[track_caller]
fn assert_equal(settings: &DatabaseSettings, shop: &Bazaar, context: &str) {
    let compared = side_by_side(settings, shop).unwrap();
    let differences = compared.tables.differences(&compared.journal);
    assert!(compared.is_equal(), "law 10, {context}: {differences:?}");
    assert_eq!(compared.tables.frame, shop.durable(), "{context}");
}

/// Waits until the projector has applied everything.
#[track_caller]
fn catch_up(projector: &Projector, shop: &Bazaar, within: Duration) {
    let began = Instant::now();
    let status = projector.status();
    while status.frame() < shop.durable() {
        assert!(
            began.elapsed() < within,
            "at {} of {} after {within:?}: {:?}",
            status.frame(),
            shop.durable(),
            status.trouble()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn shop(path: &Path, seed: u64, changes: u64) -> Bazaar {
    let mut shop = Bazaar::open(path, seed);
    shop.trade(changes);
    shop
}

#[test]
fn a_projection_is_the_journal_folded() {
    let mut met = BTreeSet::new();
    for seed in 1..=3 {
        let home = tempfile::tempdir().unwrap();
        let shop = shop(home.path(), seed, 4_000);
        met.extend(shop.met.keys().cloned());
        let database = Database::new();
        let settings = database.settings();
        run(async {
            let connection = migrated(&settings).await;
            rebuild(connection, &shop.directory, false, &mut |_| {}).await.unwrap();
        });
        assert_equal(&settings, &shop, &format!("seed {seed}"));
        let held = database.psql(
            "SELECT count(*) FROM (SELECT sku, sum(delta) AS units FROM doorbuster.stock_ledger GROUP BY sku) l \
             JOIN doorbuster.stock_levels s USING (sku) WHERE s.on_hand <> l.units",
        );
        assert_eq!(held, "0", "law 1: the ledger's sum is on_hand");
        // Seen by the comparison, or it is worth nothing.
        for spoilt in [
            "UPDATE doorbuster.orders SET email = email || ' ' WHERE number = (SELECT min(number) FROM doorbuster.orders)",
            "DELETE FROM doorbuster.order_timeline WHERE position = (SELECT max(position) FROM doorbuster.order_timeline)",
            "UPDATE doorbuster.stock_levels SET reserved = reserved + 1 WHERE sku = 'SKU-1'",
        ] {
            database.psql(spoilt);
            let compared = side_by_side(&settings, &shop).unwrap();
            assert!(!compared.is_equal(), "{spoilt}");
            run(async {
                let connection = settings.connect().await.unwrap();
                rebuild(connection, &shop.directory, false, &mut |_| {}).await.unwrap();
            });
            assert_equal(&settings, &shop, "rebuilt");
        }
    }
    let missing: Vec<&str> = EVENTS.into_iter().filter(|name| !met.contains(*name)).collect();
    assert_eq!(missing, [] as [&str; 0], "no seed ever met these; met were {met:?}");
}

/// Every event there is; reservations over several SKUs apart, which say only what their SKUs say too.
const EVENTS: [&str; 53] = [
    "Stock Defined",
    "Stock Redefined",
    "Stock Adjusted",
    "Stock OnHandSet",
    "Stock Reserved",
    "Stock Extended",
    "Stock Committed",
    "Stock Released",
    "Stock Expired",
    "Stock PartHeld",
    "Stock PartSold",
    "Stock PartFreed",
    "Stock Restocked",
    "Cart Created",
    "Cart LinesAdded",
    "Cart QuantitySet",
    "Cart CheckoutStarted",
    "Cart Ordered",
    "Cart Reopened",
    "Cart Deleted",
    "Cart Expired",
    "Order Started",
    "Order UnitsReserved",
    "Order UnitsRefused",
    "Order PaymentUnanswered",
    "Order ActionRequired",
    "Order ConfirmRequested",
    "Order VoidRequested",
    "Order PaymentDeclined",
    "Order PaymentVoided",
    "Order Placed",
    "Order UnitsSold",
    "Order UnitsFreed",
    "Order CartTold",
    "Order CancelRequested",
    "Order RefundRequested",
    "Order RefundSucceeded",
    "Order RefundFailed",
    "Order UnitsRestocked",
    "Order Fulfilled",
    "Order Completed",
    "Order PaymentDeferred",
    "Order PaymentResumed",
    "Order PaymentAuthorized",
    "Order PaymentCaptured",
    "Order CaptureFailed",
    "Order AuthorizationVoided",
    "Order Noticed",
    "Order Noticed, asking",
    "Order StrayFound",
    "Order StrayReturned",
    "Order StrayKept",
    "Order Answered",
];

#[test]
fn where_batches_end_makes_no_difference() {
    let home = tempfile::tempdir().unwrap();
    let mut shop = Bazaar::open(home.path(), 41);
    shop.trade(3_000);
    // A frame for each turn, so that a batch can end behind any.
    for _ in 0..300 {
        shop.trade(1);
    }
    for name in ["PaymentResumed", "PaymentCaptured", "CaptureFailed", "AuthorizationVoided", "StrayKept"] {
        assert!(shop.met.contains_key(&format!("Order {name}")), "{name} is missing: {:?}", shop.met);
    }
    let database = Database::new();
    let settings = database.settings();
    run(async { drop(migrated(&settings).await) });
    for events_max in [1, 7, 20_000] {
        run(async {
            let connection = settings.connect().await.unwrap();
            rebuild_in_batches(connection, &shop.directory, false, events_max, &mut |_| {}).await.unwrap();
        });
        assert_equal(&settings, &shop, &format!("batches of {events_max}"));
    }
}

#[test]
fn projector_postgres_and_engine_killed_in_random_order_double_nothing_and_lose_nothing() {
    let seed = 7;
    let mut chance = Chance::new(seed);
    let home = tempfile::tempdir().unwrap();
    let mut shop = shop(home.path(), seed, 200);
    let mut server = Postgres::start().unwrap();
    let settings = DatabaseSettings::parse(&server.fresh_database("shop").unwrap(), "test").unwrap();
    let settings = settings.with_patience(2_000, Duration::from_secs(3));
    let mut projector = Projector::start(settings.clone(), shop.follow(), true).unwrap();
    for round in 0..9 {
        shop.trade(60 + chance.below(120));
        std::thread::sleep(Duration::from_millis(chance.below(150)));
        match chance.below(3) {
            0 => {
                server.kill().unwrap();
                shop.trade(40);
                server.run().unwrap();
            }
            1 => {
                // Its thread is left where it is, as a kill would leave its session: it may even write on for a moment.
                projector.stop(Duration::ZERO);
                projector = Projector::start(settings.clone(), shop.follow(), true).unwrap();
            }
            _ => {
                projector.stop(Duration::ZERO);
                shop = shop.reopen();
                projector = Projector::start(settings.clone(), shop.follow(), true).unwrap();
            }
        }
        catch_up(&projector, &shop, Duration::from_secs(40));
        assert_equal(&settings, &shop, &format!("seed {seed}, round {round}"));
    }
    projector.stop(Duration::from_secs(5));
}

#[test]
fn no_bad_day_of_postgres_ends_the_projection() {
    let home = tempfile::tempdir().unwrap();
    let mut shop = shop(home.path(), 11, 300);
    let mut server = Postgres::start().unwrap();
    let settings = DatabaseSettings::parse(&server.fresh_database("shop").unwrap(), "test").unwrap();
    let settings = settings.with_patience(800, Duration::from_millis(1_200));
    // Absent at the start.
    server.stop().unwrap();
    let projector = Projector::start(settings.clone(), shop.follow(), true).unwrap();
    let status = projector.status();
    let waits_for = |told: &str| {
        let began = Instant::now();
        loop {
            let trouble = status.trouble().unwrap_or_default();
            if trouble.contains(told) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "it says {trouble:?}, not {told:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    waits_for("refused");
    server.run().unwrap();
    catch_up(&projector, &shop, Duration::from_secs(30));
    for (day, told) in
        [("paused", "no answer"), ("read-only", "read-only"), ("locked", "timeout"), ("killed", "")]
    {
        match day {
            "paused" => server.pause(),
            "read-only" => {
                let sql = "ALTER DATABASE shop SET default_transaction_read_only = on; \
                           SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'shop'";
                server.psql("postgres", sql).unwrap();
            }
            "locked" => {
                let url = server.url("shop");
                std::thread::spawn(move || {
                    run(async {
                        let locker = DatabaseSettings::parse(&url, "locker").unwrap();
                        let locker = locker.with_patience(60_000, Duration::from_secs(60));
                        let locker = locker.connect().await.unwrap();
                        let sql = "BEGIN; LOCK TABLE doorbuster.orders; SELECT pg_sleep(4); COMMIT";
                        locker.client().batch_execute(sql).await.unwrap();
                    });
                });
                std::thread::sleep(Duration::from_millis(300));
            }
            _ => server.kill().unwrap(),
        }
        shop.trade(150);
        if !told.is_empty() {
            waits_for(told);
        }
        shop.trade(150);
        match day {
            "paused" => server.resume(),
            "read-only" => {
                let sql = "ALTER DATABASE shop SET default_transaction_read_only = off";
                server.psql("postgres", sql).unwrap();
            }
            "locked" => {}
            _ => server.run().unwrap(),
        }
        catch_up(&projector, &shop, Duration::from_secs(40));
        assert_equal(&settings, &shop, day);
        assert_eq!(status.trouble(), None, "{day}");
    }
    projector.stop(Duration::from_secs(5));
}

/// What was put in the place of the tables is noticed although nothing is sold: the journal has what they lack.
#[test]
fn an_older_copy_restored_in_a_quiet_hour_is_filled_up_before_the_next_event() {
    let home = tempfile::tempdir().unwrap();
    let database = Database::new();
    let settings = database.settings();
    let name = &database.name;
    let mut shop = shop(home.path(), 31, 200);
    let follow = |shop: &Bazaar| Projector::start(settings.clone(), shop.follow(), true).unwrap();
    let projector = follow(&shop);
    catch_up(&projector, &shop, Duration::from_secs(30));
    projector.stop(Duration::from_secs(5));
    // Nobody may be connected to what is copied.
    let copied = format!("CREATE DATABASE {name}_older TEMPLATE {name}");
    database.cluster.psql("postgres", &copied).unwrap();
    shop.trade(150);
    let projector = follow(&shop);
    catch_up(&projector, &shop, Duration::from_secs(30));
    for restore in ["another database under its name", "its tables emptied under the session"] {
        if restore.starts_with("another") {
            for sql in [
                format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
                format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
                format!("ALTER DATABASE {name} RENAME TO {name}_gone"),
                format!("ALTER DATABASE {name}_older RENAME TO {name}"),
            ] {
                database.cluster.psql("postgres", &sql).unwrap();
            }
        } else {
            database.psql(
                "DO $$ DECLARE named text; BEGIN \
                 FOR named IN SELECT tablename FROM pg_tables WHERE schemaname = 'doorbuster' AND tablename NOT IN ('migrations', 'schema_objects') LOOP \
                 EXECUTE format('TRUNCATE doorbuster.%I CASCADE', named); END LOOP; END $$",
            );
        }
        let began = Instant::now();
        let frame = || database.psql("SELECT coalesce(max(last_frame), 0) FROM doorbuster.projection_state");
        assert_ne!(frame().trim(), shop.durable().to_string(), "{restore}");
        while frame().trim() != shop.durable().to_string() {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{restore}: {:?}",
                projector.status().trouble()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_equal(&settings, &shop, restore);
    }
    projector.stop(Duration::from_secs(5));
}

#[test]
fn a_database_that_does_not_fit_is_refused_with_its_remedy() {
    let home = tempfile::tempdir().unwrap();
    let first = shop(&home.path().join("first"), 21, 300);
    let other = shop(&home.path().join("other"), 22, 400);
    let database = Database::new();
    let settings = database.settings();
    let project = |shop: &Bazaar, takes_over: bool| {
        run(async {
            let connection = migrated(&settings).await;
            rebuild(connection, &shop.directory, takes_over, &mut |_| {}).await
        })
    };
    project(&first, false).unwrap();
    let refused = project(&other, false).unwrap_err();
    assert!(matches!(refused, ProjectionError::OtherEngine { .. }), "{refused}");
    assert!(refused.to_string().contains("--take-over"), "{refused}");
    assert!(matches!(side_by_side(&settings, &other), Err(ProjectionError::OtherEngine { .. })));
    // What a follower is told.
    let told = |sql: &str, expected: &str| {
        database.psql(sql);
        let projector = Projector::start(settings.clone(), first.follow(), true).unwrap();
        let began = Instant::now();
        let status = projector.status();
        while !status.trouble().unwrap_or_default().contains(expected) {
            assert!(began.elapsed() < Duration::from_secs(10), "{expected:?}: {:?}", status.trouble());
            std::thread::sleep(Duration::from_millis(5));
        }
        projector.stop(Duration::from_secs(2));
    };
    told("UPDATE doorbuster.projection_state SET last_frame_digest = 'x'", "went its own way");
    told("UPDATE doorbuster.projection_state SET last_frame = last_frame + 99", "an older copy");
    told(
        "UPDATE doorbuster.projection_state SET engine_id = 'somebody'",
        "holds the projection of engine somebody",
    );
    project(&other, true).unwrap();
    assert_equal(&settings, &other, "taken over");
}

#[test]
fn a_slow_cut_or_silent_network_costs_time_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let mut shop = shop(home.path(), 31, 200);
    let server = Postgres::start().unwrap();
    let url = server.fresh_database("shop").unwrap();
    let direct = DatabaseSettings::parse(&url, "test").unwrap();
    let proxy = Proxy::before(server.port()).unwrap();
    let url = url.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
    let settings = DatabaseSettings::parse(&url, "test").unwrap();
    let settings = settings.with_patience(5_000, Duration::from_secs(5));
    let projector = Projector::start(settings, shop.follow(), true).unwrap();
    catch_up(&projector, &shop, Duration::from_secs(30));
    // Every answer takes half a second, there and back.
    for weather in [Weather::Slow(Duration::from_millis(250)), Weather::Silent, Weather::Cut] {
        proxy.set(weather);
        shop.trade(300);
        if matches!(weather, Weather::Slow(_)) {
            catch_up(&projector, &shop, Duration::from_secs(90));
            assert_equal(&direct, &shop, "slow");
        } else {
            let began = Instant::now();
            while projector.status().trouble().is_none() {
                assert!(began.elapsed() < Duration::from_secs(20), "{weather:?} is not noticed");
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(projector.status().frame() < shop.durable(), "{weather:?}");
        }
        proxy.set(Weather::Clear);
        catch_up(&projector, &shop, Duration::from_secs(40));
        assert_equal(&direct, &shop, &format!("after {weather:?}"));
    }
    projector.stop(Duration::from_secs(5));
}
