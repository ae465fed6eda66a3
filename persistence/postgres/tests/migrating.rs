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
            migrate(&mut connection).await.unwrap();
            assert_eq!(check(&mut connection).await.unwrap(), [], "from version {earlier}");
        });
        assert_eq!(listing(&database), newest, "from version {earlier}");
    }
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
