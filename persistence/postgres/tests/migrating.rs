//! Migrations: from every earlier version to the newest, one at a time, and nothing papered over.

use doorbuster_postgres::migrations::{
    MIGRATIONS, Migration, MigrationError, check, check_against, migrate, migrate_to,
};
use doorbuster_postgres::schema::Difference;

use crate::support::{Database, run};

/// All objects of our schemas with their definitions, as recorded.
fn listing(database: &Database) -> String {
    database.psql("SELECT object, definition FROM doorbuster.schema_objects ORDER BY object")
}

#[test]
fn every_earlier_version_becomes_the_newest() {
    let fresh = Database::new();
    run(async {
        let mut connection = fresh.connect().await;
        let migrated = migrate(&mut connection).await.unwrap();
        assert_eq!(migrated.applied.len(), MIGRATIONS.len());
        let again = migrate(&mut connection).await.unwrap();
        assert_eq!((again.applied.len(), again.number), (0, migrated.number));
        assert_eq!(check(&mut connection).await.unwrap(), []);
    });
    for month in OLD_MONTHS {
        fresh.psql(&format!("SELECT doorbuster.make_month('{month}-07')"));
    }
    let newest = listing(&fresh);
    assert!(newest.lines().count() > 150, "{newest}");
    for earlier in 0..MIGRATIONS.len() {
        let database = Database::new();
        run(async {
            let mut connection = database.connect().await;
            let first = migrate_to(&mut connection, &MIGRATIONS[..earlier]).await.unwrap();
            assert_eq!(first.applied.len(), earlier);
            if earlier < MIGRATIONS.len() {
                let pending = check(&mut connection).await;
                assert!(matches!(pending, Err(MigrationError::Pending { .. })), "{pending:?}");
            }
            if earlier > 0 {
                for month in OLD_MONTHS {
                    database.psql(&paid_order(month, "captured"));
                }
            }
            migrate(&mut connection).await.unwrap();
            assert_eq!(check(&mut connection).await.unwrap(), [], "from version {earlier}");
            if earlier > 0 {
                let kept =
                    "SELECT string_agg(order_id || state, ',' ORDER BY order_id) FROM doorbuster.payments";
                let expected = "ord_2026-10captured,ord_2026-11captured,ord_2026-12captured";
                assert_eq!(database.psql(kept), expected, "from version {earlier}");
            }
            // Old partitions, and one that is made now.
            for month in OLD_MONTHS.into_iter().chain(["2027-01"]) {
                let sql = paid_order(month, "authorized").replace("ord_", "ord_new_");
                database.psql(&sql);
                let sql = sql.replace("'authorized'", "'borrowed'").replace("ord_new_", "ord_odd_");
                let refused = database.cluster.psql(&database.name, &sql).unwrap_err().to_string();
                assert!(
                    refused.contains("payments_state_check"),
                    "{month}, from version {earlier}: {refused}"
                );
            }
            assert_eq!(check(&mut connection).await.unwrap(), [], "with new months, from version {earlier}");
        });
        assert_eq!(listing(&database), newest, "from version {earlier}");
        let checks = "SELECT count(*), count(DISTINCT pg_get_constraintdef(oid)), \
                      bool_and(pg_get_constraintdef(oid) LIKE '%authorized%' AND convalidated) \
                      FROM pg_constraint WHERE conname LIKE 'payments_state_check%'";
        assert_eq!(database.psql(checks), "5|1|t", "parent and each partition, from version {earlier}");
    }
}

/// Months that have partitions with rows before a migration.
const OLD_MONTHS: [&str; 3] = ["2026-10", "2026-11", "2026-12"];

/// An order of this month with a payment in this state.
fn paid_order(month: &str, state: &str) -> String {
    format!(
        "SELECT doorbuster.make_month('{month}-07'); \
         INSERT INTO doorbuster.orders (order_id, created_at, number, cart_id, state, email, provider, currency, subtotal, \
             discount, shipping, tax, total, captured, refunded, placed_at, version, changed_at) \
         VALUES ('ord_{month}', '{month}-07', 1, 'cart_1', 'paid', 'ada@example.org', 'fake', 'GBP', 500, 0, 0, 0, 500, \
             CASE WHEN '{state}' = 'captured' THEN 500 ELSE 0 END, 0, '{month}-07', 5, '{month}-07'); \
         INSERT INTO doorbuster.payments (order_id, ordered_at, payment_id, provider, amount, currency, state, requested_at) \
         VALUES ('ord_{month}', '{month}-07', 'pay_1', 'fake', 500, 'GBP', '{state}', '{month}-07')"
    )
}

#[test]
fn several_that_migrate_at_once_take_turns() {
    let database = Database::new();
    let applied: Vec<usize> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    run(async {
                        let mut connection = database.connect().await;
                        migrate(&mut connection).await.unwrap().applied.len()
                    })
                })
            })
            .collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(applied.iter().sum::<usize>(), MIGRATIONS.len(), "{applied:?}");
}

const MADE: Migration = Migration { number: 1, name: "0001_made", sql: "CREATE TABLE doorbuster.a (x int)" };
const MORE: Migration =
    Migration { number: 2, name: "0002_more", sql: "ALTER TABLE doorbuster.a ADD COLUMN y int" };

#[test]
fn what_does_not_fit_is_refused_with_its_remedy() {
    let broken =
        Migration { number: 2, name: "0002_broken", sql: "CREATE TABLE doorbuster.b (x int); SELECT 1/0" };
    let outside = Migration {
        number: 2,
        name: "0002_outside",
        sql: "-- outside a transaction\nCREATE INDEX CONCURRENTLY a_x ON doorbuster.a (x)",
    };
    let fails_outside = Migration { sql: "-- outside a transaction\nSELECT 1/0", ..outside };
    let changed = Migration { sql: "CREATE TABLE doorbuster.a (x bigint)", ..MADE };
    // What is applied first, what somebody does then, what is applied next, and what that is told.
    for (label, first, by_hand, next, told) in [
        ("a changed file", &[MADE][..], "", &[changed][..], "was changed after it was applied"),
        ("a newer engine", &[MADE, MORE], "", &[MADE], "at migration 2, but this engine knows 1"),
        ("a failing file", &[MADE], "", &[MADE, broken], "division by zero"),
        ("half a file", &[MADE], "", &[MADE, fails_outside], "division by zero"),
        (
            "a lost record",
            &[MADE, MORE],
            "DELETE FROM doorbuster.migrations WHERE number = 1",
            &[MADE, MORE],
            "migration 1 is not recorded",
        ),
        (
            "a changed column",
            &[MADE],
            "ALTER TABLE doorbuster.a ALTER x TYPE bigint",
            &[MADE, MORE],
            "column doorbuster.a.x was changed",
        ),
        (
            "a lost table",
            &[MADE],
            "DROP TABLE doorbuster.a",
            &[MADE, MORE],
            "column doorbuster.a.x is missing",
        ),
    ] {
        let database = Database::new();
        run(async {
            let mut connection = database.connect().await;
            migrate_to(&mut connection, first).await.unwrap();
            database.psql(if by_hand.is_empty() { "SELECT 1" } else { by_hand });
            let error = migrate_to(&mut connection, next).await.unwrap_err().to_string();
            assert!(error.contains(told), "{label}: {error}");
            if label == "a failing file" {
                let left = database.psql("SELECT to_regclass('doorbuster.b') IS NULL");
                assert_eq!(left, "t", "a file is applied whole or not at all");
            }
            if label == "half a file" {
                let error = migrate_to(&mut connection, next).await.unwrap_err().to_string();
                assert!(error.contains("0002_outside was begun and not finished"), "{error}");
                database.psql("DELETE FROM doorbuster.migrations WHERE number = 2");
                migrate_to(&mut connection, &[MADE, outside]).await.unwrap();
                assert_eq!(check_against(&mut connection, &[MADE, outside]).await.unwrap(), []);
            }
        });
    }
}

#[test]
fn a_schema_changed_by_hand_is_told_by_name() {
    let database = Database::new();
    run(async {
        let mut connection = database.connect().await;
        migrate(&mut connection).await.unwrap();
        database.psql(
            "ALTER TABLE doorbuster.orders DROP CONSTRAINT totals_add_up; \
             CREATE INDEX orders_by_hand ON doorbuster.orders (currency); \
             ALTER TABLE doorbuster.carts ALTER units DROP NOT NULL; \
             SELECT doorbuster.make_month('2026-12-24'); CREATE VIEW reporting.own AS SELECT 1; CREATE TABLE public.own ()",
        );
        let mut told = check(&mut connection).await.unwrap();
        told.sort_by_key(ToString::to_string);
        let expected = [
            Difference::Changed("column doorbuster.carts.units".into()),
            Difference::Missing("constraint doorbuster.orders.totals_add_up".into()),
            Difference::Added("index doorbuster.orders_by_hand".into()),
        ];
        assert_eq!(told, expected, "partitions, and what is somebody's own, are no change");
    });
}

#[test]
fn every_table_and_column_says_what_it_is() {
    let database = Database::new();
    run(async { migrate(&mut database.connect().await).await.unwrap() });
    let silent = database.psql(
        "SELECT n.nspname, c.relname, coalesce(a.attname, '') FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN ('doorbuster', 'reporting') \
         CROSS JOIN LATERAL (SELECT NULL::name AS attname, 0::int2 AS attnum UNION ALL \
             SELECT attname, attnum FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) a \
         WHERE c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition \
         AND col_description(c.oid, a.attnum) IS NULL \
         AND NOT (a.attnum = 0 AND obj_description(c.oid, 'pg_class') IS NOT NULL) ORDER BY 1, 2, 3",
    );
    assert_eq!(silent, "", "no COMMENT ON");
}

#[test]
fn months_become_partitions_once() {
    let database = Database::new();
    run(async { migrate(&mut database.connect().await).await.unwrap() });
    for moment in ["2026-12-31 23:59:59.999+00", "2027-01-01 00:00+00", "2026-12-01 00:00+00"] {
        database.psql(&format!("SELECT doorbuster.make_month('{moment}')"));
    }
    let parts = database.psql(
        "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' AND relname LIKE 'orders%' ORDER BY 1",
    );
    assert_eq!(parts, "orders_2026_12\norders_2027_01");
    let all = database.psql("SELECT count(*) FROM pg_class WHERE relispartition AND relkind = 'r'");
    assert_eq!(all, "16", "eight tables, two months");
}

#[test]
fn revenue_is_what_was_captured() {
    let database = Database::new();
    run(async { migrate(&mut database.connect().await).await.unwrap() });
    // Placed at midnight: one captured then, one captured two hours later and half of it refunded, one authorized, one lost.
    for (name, state, captured) in [
        ("a", "captured", 500),
        ("b", "partially_refunded", 500),
        ("c", "authorized", 0),
        ("d", "declined", 0),
    ] {
        database.psql(&paid_order("2026-11", state).replace("ord_2026-11", name));
        database.psql(&format!(
            "UPDATE doorbuster.orders SET captured = {captured}, state = '{}' WHERE order_id = '{name}'; \
             INSERT INTO doorbuster.order_lines (order_id, ordered_at, line, sku, name, quantity, unit_price, total, fulfilled, \
                 refunded) VALUES ('{name}', '2026-11-07', 1, 'TEE', 'a tee', 2, 250, 500, 0, 0); \
             UPDATE doorbuster.payments SET settled_at = '2026-11-07 00:10' WHERE order_id = 'a'; \
             UPDATE doorbuster.payments SET settled_at = '2026-11-07 02:10' WHERE order_id IN ('b', 'd')",
            if name == "d" { "cancelled" } else { "paid" }
        ));
    }
    database.psql(
        "INSERT INTO doorbuster.refunds (refund_id, ordered_at, order_id, amount, currency, restock, cancels, state, requested_at, \
             settled_at) VALUES ('ref_1', '2026-11-07', 'b', 250, 'GBP', false, false, 'succeeded', '2026-11-07', '2026-11-07 03:00')",
    );
    for (what, expected) in [
        ("orders, units, revenue_minor, revenue FROM reporting.orders_per_minute", "4|8|1000|10.00"),
        ("orders, units, revenue_minor, revenue FROM reporting.top_skus", "3|6|1000|10.00"),
        (
            "orders, gross_minor, refunded_minor, net FROM reporting.revenue_per_hour ORDER BY hour",
            "4|500|0|5.00\n0|500|0|5.00\n0|0|250|-2.50",
        ),
    ] {
        assert_eq!(database.psql(&format!("SELECT {what}")), expected, "{what}");
    }
}
