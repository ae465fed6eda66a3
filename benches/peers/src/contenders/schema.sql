-- Run before each turn. The fill factor leaves room on the page, so that a row's next version stays beside it.
DROP TABLE IF EXISTS inventory, reservation, hold;
CREATE TABLE inventory (
    id integer PRIMARY KEY,
    sku text NOT NULL UNIQUE,
    on_hand bigint NOT NULL,
    reserved bigint NOT NULL DEFAULT 0 CHECK (reserved <= on_hand)
) WITH (fillfactor = 50);
-- What the typical service books.
CREATE TABLE reservation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    idempotency_key text NOT NULL UNIQUE,
    inventory_id integer NOT NULL,
    quantity bigint NOT NULL,
    customer text,
    expires_at timestamptz NOT NULL
);
-- What pgbench books: its best form keeps no key.
CREATE TABLE hold (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    inventory_id integer NOT NULL,
    quantity bigint NOT NULL,
    expires_at timestamptz NOT NULL
);
INSERT INTO inventory (id, sku, on_hand)
    SELECT number, 'SKU-' || lpad(number::text, 5, '0'), 1000000000 FROM generate_series(0, :skus - 1) AS number;
INSERT INTO inventory (id, sku, on_hand) VALUES (1000000, 'SKU-ENDED', 0);
VACUUM ANALYZE inventory;
CHECKPOINT;
