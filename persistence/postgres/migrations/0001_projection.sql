-- The relational read model: the journal folded into tables that a shop's analyst expects.
--
-- Written by the projector alone, in one transaction with projection_state. Ids are the wire's (`ord_…`), money is in
-- integer minor units of its currency, times are UTC. Tables of orders are partitioned by the month of the order.

CREATE TABLE doorbuster.projection_state (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    engine_id text NOT NULL,
    last_frame bigint NOT NULL CHECK (last_frame >= 0),
    last_frame_digest text NOT NULL,
    last_at timestamptz,
    holds_frame bigint NOT NULL CHECK (holds_frame BETWEEN 0 AND last_frame),
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE doorbuster.projection_state IS 'How far the journal has been applied. One row, updated in the transaction that applies events.';
COMMENT ON COLUMN doorbuster.projection_state.singleton IS 'Always true: there is one row.';
COMMENT ON COLUMN doorbuster.projection_state.engine_id IS 'Whose journal it is: the engine id in the data directory''s FORMAT file.';
COMMENT ON COLUMN doorbuster.projection_state.last_frame IS 'Last journal frame applied; 0 before the first.';
COMMENT ON COLUMN doorbuster.projection_state.last_frame_digest IS 'BLAKE3 of that frame''s body, hexadecimal: tells a journal of another history.';
COMMENT ON COLUMN doorbuster.projection_state.last_at IS 'Business time of the last event applied.';
COMMENT ON COLUMN doorbuster.projection_state.holds_frame IS 'The frame that open_holds reflects; it trails last_frame by some seconds.';
COMMENT ON COLUMN doorbuster.projection_state.applied_at IS 'Wall clock of the last application.';

CREATE TABLE doorbuster.skus (
    sku text PRIMARY KEY CHECK (length(sku) BETWEEN 1 AND 64),
    name text NOT NULL,
    price bigint NOT NULL CHECK (price >= 0),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    oversell_policy text NOT NULL CHECK (oversell_policy IN ('deny', 'allow')),
    oversell_limit bigint NOT NULL CHECK (oversell_limit >= 0),
    reservation_ttl_ms bigint CHECK (reservation_ttl_ms > 0),
    low_stock_at bigint,
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL
);
COMMENT ON TABLE doorbuster.skus IS 'The catalogue: what the merchant says of each SKU.';
COMMENT ON COLUMN doorbuster.skus.sku IS 'The merchant''s own name of the stock-keeping unit.';
COMMENT ON COLUMN doorbuster.skus.name IS 'Its name for people.';
COMMENT ON COLUMN doorbuster.skus.price IS 'Price of one, in minor units of currency.';
COMMENT ON COLUMN doorbuster.skus.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN doorbuster.skus.oversell_policy IS 'deny, or allow up to oversell_limit.';
COMMENT ON COLUMN doorbuster.skus.oversell_limit IS 'Units that may be sold beyond what is there; 0 under deny.';
COMMENT ON COLUMN doorbuster.skus.reservation_ttl_ms IS 'Its own time to live for reservations, in milliseconds; null: the engine''s default.';
COMMENT ON COLUMN doorbuster.skus.low_stock_at IS 'Sellable units at or below this read as low_stock.';
COMMENT ON COLUMN doorbuster.skus.created_at IS 'When it was made.';
COMMENT ON COLUMN doorbuster.skus.changed_at IS 'When what is said of it last changed; its stock has a time of its own.';

CREATE TABLE doorbuster.stock_levels (
    sku text PRIMARY KEY REFERENCES doorbuster.skus,
    received bigint NOT NULL,
    on_hand bigint NOT NULL,
    reserved bigint NOT NULL CHECK (reserved >= 0),
    sold bigint NOT NULL CHECK (sold >= 0),
    available bigint GENERATED ALWAYS AS (on_hand - reserved) STORED,
    version bigint NOT NULL,
    changed_at timestamptz NOT NULL,
    CONSTRAINT units_are_conserved CHECK (received = on_hand + sold)
);
COMMENT ON TABLE doorbuster.stock_levels IS 'Units of each SKU as of projection_state.last_frame.';
COMMENT ON COLUMN doorbuster.stock_levels.sku IS 'Which SKU.';
COMMENT ON COLUMN doorbuster.stock_levels.received IS 'Opening + receipts + net adjustments.';
COMMENT ON COLUMN doorbuster.stock_levels.on_hand IS 'Physical units.';
COMMENT ON COLUMN doorbuster.stock_levels.reserved IS 'Units set aside under open reservations and checkouts.';
COMMENT ON COLUMN doorbuster.stock_levels.sold IS 'Units committed and not restocked.';
COMMENT ON COLUMN doorbuster.stock_levels.available IS 'on_hand - reserved.';
COMMENT ON COLUMN doorbuster.stock_levels.version IS 'Grows by one with each event of this SKU.';
COMMENT ON COLUMN doorbuster.stock_levels.changed_at IS 'Business time of its last event.';

CREATE TABLE doorbuster.stock_ledger (
    position bigint PRIMARY KEY,
    sku text NOT NULL REFERENCES doorbuster.skus,
    at timestamptz NOT NULL,
    kind text NOT NULL CHECK (kind IN ('opening', 'adjustment', 'count', 'sale', 'restock')),
    delta bigint NOT NULL,
    reason text,
    reference text,
    reservation_id text
);
CREATE INDEX stock_ledger_of_sku ON doorbuster.stock_ledger (sku, position);
COMMENT ON TABLE doorbuster.stock_ledger IS 'Every movement of on_hand. The sum of a SKU''s deltas is its on_hand.';
COMMENT ON COLUMN doorbuster.stock_ledger.position IS 'Where the event stands among all events of the engine: larger is later.';
COMMENT ON COLUMN doorbuster.stock_ledger.sku IS 'Which SKU.';
COMMENT ON COLUMN doorbuster.stock_ledger.at IS 'When.';
COMMENT ON COLUMN doorbuster.stock_ledger.kind IS 'opening, adjustment, count, sale or restock.';
COMMENT ON COLUMN doorbuster.stock_ledger.delta IS 'Change of on_hand, in units.';
COMMENT ON COLUMN doorbuster.stock_ledger.reason IS 'Why, in the caller''s words.';
COMMENT ON COLUMN doorbuster.stock_ledger.reference IS 'The caller''s own reference; of a restock the order.';
COMMENT ON COLUMN doorbuster.stock_ledger.reservation_id IS 'The reservation behind a sale; an order''s has the same digits as the order.';

CREATE TABLE doorbuster.open_holds (
    sku text NOT NULL,
    reservation_id text NOT NULL,
    quantity bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (sku, reservation_id)
);
COMMENT ON TABLE doorbuster.open_holds IS 'The projector''s memory: units held at frame projection_state.holds_frame. A hold of a few seconds never gets here.';
COMMENT ON COLUMN doorbuster.open_holds.sku IS 'Which SKU''s units.';
COMMENT ON COLUMN doorbuster.open_holds.reservation_id IS 'For which reservation or order.';
COMMENT ON COLUMN doorbuster.open_holds.quantity IS 'How many.';

CREATE TABLE doorbuster.carts (
    cart_id text PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('open', 'checking_out', 'ordered', 'deleted', 'expired')),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    units bigint NOT NULL CHECK (units >= 0),
    subtotal bigint NOT NULL,
    order_id text,
    next_line integer NOT NULL,
    ttl_ms bigint NOT NULL,
    version bigint NOT NULL,
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT ordered_carts_name_their_order CHECK (state <> 'ordered' OR order_id IS NOT NULL)
);
CREATE INDEX carts_by_state ON doorbuster.carts (state, changed_at);
CREATE INDEX carts_by_creation ON doorbuster.carts (created_at);
COMMENT ON TABLE doorbuster.carts IS 'Carts, abandoned ones included: see reporting.abandoned_carts.';
COMMENT ON COLUMN doorbuster.carts.cart_id IS 'Its id, as on the wire.';
COMMENT ON COLUMN doorbuster.carts.state IS 'open, checking_out, ordered, deleted by its owner, or expired: ended by time.';
COMMENT ON COLUMN doorbuster.carts.currency IS 'ISO 4217 code of all its lines.';
COMMENT ON COLUMN doorbuster.carts.units IS 'Units on its lines.';
COMMENT ON COLUMN doorbuster.carts.subtotal IS 'Sum of its lines, in minor units.';
COMMENT ON COLUMN doorbuster.carts.order_id IS 'The order it became or is becoming.';
COMMENT ON COLUMN doorbuster.carts.next_line IS 'Number of the next new line; never used twice.';
COMMENT ON COLUMN doorbuster.carts.ttl_ms IS 'How long it lives after each change, in milliseconds.';
COMMENT ON COLUMN doorbuster.carts.version IS 'Grows by one with each change.';
COMMENT ON COLUMN doorbuster.carts.created_at IS 'When it was made.';
COMMENT ON COLUMN doorbuster.carts.changed_at IS 'When something last happened to it.';
COMMENT ON COLUMN doorbuster.carts.expires_at IS 'When it ends, or ended, by itself.';

-- No foreign key to skus here and on order_lines: a line keeps the name it was added under, and the journal promises no
-- order between one SKU's first event and another actor's.
CREATE TABLE doorbuster.cart_lines (
    cart_id text NOT NULL REFERENCES doorbuster.carts ON DELETE CASCADE,
    line integer NOT NULL,
    sku text NOT NULL,
    name text NOT NULL,
    quantity bigint NOT NULL CHECK (quantity > 0),
    unit_price bigint NOT NULL,
    PRIMARY KEY (cart_id, line)
);
CREATE INDEX cart_lines_by_sku ON doorbuster.cart_lines (sku);
COMMENT ON TABLE doorbuster.cart_lines IS 'Lines of carts.';
COMMENT ON COLUMN doorbuster.cart_lines.cart_id IS 'Of which cart.';
COMMENT ON COLUMN doorbuster.cart_lines.line IS 'Number within the cart.';
COMMENT ON COLUMN doorbuster.cart_lines.sku IS 'What.';
COMMENT ON COLUMN doorbuster.cart_lines.name IS 'Its name when it was added.';
COMMENT ON COLUMN doorbuster.cart_lines.quantity IS 'How many.';
COMMENT ON COLUMN doorbuster.cart_lines.unit_price IS 'Price of one when it was added, in minor units of the cart''s currency.';

CREATE TABLE doorbuster.orders (
    order_id text NOT NULL,
    created_at timestamptz NOT NULL,
    number bigint NOT NULL,
    cart_id text NOT NULL,
    state text NOT NULL CHECK (state IN ('pending_payment', 'paid', 'fulfilled', 'completed', 'cancelled',
        'partially_refunded', 'refunded')),
    off_reason text CHECK (off_reason IN ('refused', 'declined', 'voided')),
    email text NOT NULL,
    provider text NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    subtotal bigint NOT NULL,
    discount bigint NOT NULL,
    shipping bigint NOT NULL,
    tax bigint NOT NULL,
    total bigint NOT NULL,
    captured bigint NOT NULL CHECK (captured >= 0),
    refunded bigint NOT NULL CHECK (refunded BETWEEN 0 AND captured),
    ship_name text,
    ship_line1 text,
    ship_line2 text,
    ship_city text,
    ship_region text,
    ship_postal_code text,
    ship_country text,
    placed_at timestamptz,
    fulfilled_at timestamptz,
    completed_at timestamptz,
    version bigint NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (order_id, created_at),
    CONSTRAINT totals_add_up CHECK (total = subtotal - discount + shipping + tax)
) PARTITION BY RANGE (created_at);
CREATE INDEX orders_by_time ON doorbuster.orders (created_at DESC, order_id DESC);
CREATE INDEX orders_by_state ON doorbuster.orders (state, created_at DESC, order_id DESC);
CREATE INDEX orders_by_email ON doorbuster.orders (email, created_at DESC, order_id DESC);
CREATE INDEX orders_by_placing ON doorbuster.orders (placed_at);
CREATE INDEX orders_by_number ON doorbuster.orders (number);
COMMENT ON TABLE doorbuster.orders IS 'Orders, one partition a month (orders_2026_11).';
COMMENT ON COLUMN doorbuster.orders.order_id IS 'Its id, as on the wire.';
COMMENT ON COLUMN doorbuster.orders.created_at IS 'When the checkout began; decides the partition.';
COMMENT ON COLUMN doorbuster.orders.number IS 'Its number for people: unique, growing.';
COMMENT ON COLUMN doorbuster.orders.cart_id IS 'The cart it came from.';
COMMENT ON COLUMN doorbuster.orders.state IS 'pending_payment, paid, fulfilled, completed, cancelled, partially_refunded or refunded.';
COMMENT ON COLUMN doorbuster.orders.off_reason IS 'Why it never came about: refused (no stock), declined or voided (no money); null otherwise.';
COMMENT ON COLUMN doorbuster.orders.email IS 'Where the confirmation goes. Personal data.';
COMMENT ON COLUMN doorbuster.orders.provider IS 'The payment provider chosen at checkout.';
COMMENT ON COLUMN doorbuster.orders.currency IS 'ISO 4217 code of every amount of this order.';
COMMENT ON COLUMN doorbuster.orders.subtotal IS 'Sum of the lines, in minor units.';
COMMENT ON COLUMN doorbuster.orders.discount IS 'What promotions take off, in minor units.';
COMMENT ON COLUMN doorbuster.orders.shipping IS 'What delivery costs, in minor units.';
COMMENT ON COLUMN doorbuster.orders.tax IS 'Tax on top, in minor units.';
COMMENT ON COLUMN doorbuster.orders.total IS 'What the shopper pays, in minor units.';
COMMENT ON COLUMN doorbuster.orders.captured IS 'Money taken, in minor units.';
COMMENT ON COLUMN doorbuster.orders.refunded IS 'Money given back, in minor units.';
COMMENT ON COLUMN doorbuster.orders.ship_name IS 'Addressee. Personal data.';
COMMENT ON COLUMN doorbuster.orders.ship_line1 IS 'First line of the address. Personal data.';
COMMENT ON COLUMN doorbuster.orders.ship_line2 IS 'Second line of the address. Personal data.';
COMMENT ON COLUMN doorbuster.orders.ship_city IS 'Town. Personal data.';
COMMENT ON COLUMN doorbuster.orders.ship_region IS 'County, state or province.';
COMMENT ON COLUMN doorbuster.orders.ship_postal_code IS 'Postal code. Personal data.';
COMMENT ON COLUMN doorbuster.orders.ship_country IS 'Country; null where there is nothing to ship.';
COMMENT ON COLUMN doorbuster.orders.placed_at IS 'When it was paid for (or needed no payment): from here on it counts as a sale.';
COMMENT ON COLUMN doorbuster.orders.fulfilled_at IS 'When the last unit was handed to the carrier.';
COMMENT ON COLUMN doorbuster.orders.completed_at IS 'When the return window had passed.';
COMMENT ON COLUMN doorbuster.orders.version IS 'Grows by one with each event.';
COMMENT ON COLUMN doorbuster.orders.changed_at IS 'When something last happened to it.';

CREATE TABLE doorbuster.order_lines (
    order_id text NOT NULL,
    ordered_at timestamptz NOT NULL,
    line integer NOT NULL,
    sku text NOT NULL,
    name text NOT NULL,
    quantity bigint NOT NULL CHECK (quantity > 0),
    unit_price bigint NOT NULL,
    total bigint NOT NULL,
    fulfilled bigint NOT NULL CHECK (fulfilled BETWEEN 0 AND quantity),
    refunded bigint NOT NULL CHECK (refunded BETWEEN 0 AND quantity),
    PRIMARY KEY (order_id, ordered_at, line),
    FOREIGN KEY (order_id, ordered_at) REFERENCES doorbuster.orders (order_id, created_at) ON DELETE CASCADE
) PARTITION BY RANGE (ordered_at);
CREATE INDEX order_lines_by_sku ON doorbuster.order_lines (sku, ordered_at);
COMMENT ON TABLE doorbuster.order_lines IS 'Lines of orders, partitioned like orders.';
COMMENT ON COLUMN doorbuster.order_lines.order_id IS 'Of which order.';
COMMENT ON COLUMN doorbuster.order_lines.ordered_at IS 'The order''s created_at; decides the partition.';
COMMENT ON COLUMN doorbuster.order_lines.line IS 'Number within the order.';
COMMENT ON COLUMN doorbuster.order_lines.sku IS 'What.';
COMMENT ON COLUMN doorbuster.order_lines.name IS 'Its name when it was ordered.';
COMMENT ON COLUMN doorbuster.order_lines.quantity IS 'How many were ordered.';
COMMENT ON COLUMN doorbuster.order_lines.unit_price IS 'Price of one, in minor units of the order''s currency.';
COMMENT ON COLUMN doorbuster.order_lines.total IS 'quantity × unit_price.';
COMMENT ON COLUMN doorbuster.order_lines.fulfilled IS 'Units handed to the carrier.';
COMMENT ON COLUMN doorbuster.order_lines.refunded IS 'Units refunded.';

CREATE TABLE doorbuster.payments (
    payment_id text NOT NULL,
    order_id text NOT NULL,
    ordered_at timestamptz NOT NULL,
    provider text NOT NULL,
    reference text,
    amount bigint NOT NULL CHECK (amount > 0),
    currency text NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'requires_action', 'captured', 'declined', 'voided',
        'partially_refunded', 'refunded')),
    decline_reason text,
    requested_at timestamptz NOT NULL,
    settled_at timestamptz,
    PRIMARY KEY (order_id, ordered_at),
    FOREIGN KEY (order_id, ordered_at) REFERENCES doorbuster.orders (order_id, created_at) ON DELETE CASCADE
) PARTITION BY RANGE (ordered_at);
-- Hashed: a provider may name a charge as long as it likes.
CREATE INDEX payments_by_reference ON doorbuster.payments USING hash (reference);
COMMENT ON TABLE doorbuster.payments IS 'Payments: one for each order that came to asking for money. No card data is ever here.';
COMMENT ON COLUMN doorbuster.payments.payment_id IS 'Its id, as on the wire.';
COMMENT ON COLUMN doorbuster.payments.order_id IS 'For which order.';
COMMENT ON COLUMN doorbuster.payments.ordered_at IS 'The order''s created_at; decides the partition.';
COMMENT ON COLUMN doorbuster.payments.provider IS 'The payment provider''s name.';
COMMENT ON COLUMN doorbuster.payments.reference IS 'The provider''s name for the charge, once it said one.';
COMMENT ON COLUMN doorbuster.payments.amount IS 'How much, in minor units.';
COMMENT ON COLUMN doorbuster.payments.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN doorbuster.payments.state IS 'pending, requires_action, captured, declined, voided, partially_refunded or refunded.';
COMMENT ON COLUMN doorbuster.payments.decline_reason IS 'Why it was declined.';
COMMENT ON COLUMN doorbuster.payments.requested_at IS 'When the money was first asked for.';
COMMENT ON COLUMN doorbuster.payments.settled_at IS 'When it was certain: captured, declined or voided.';

CREATE TABLE doorbuster.refunds (
    refund_id text NOT NULL,
    order_id text NOT NULL,
    ordered_at timestamptz NOT NULL,
    amount bigint NOT NULL CHECK (amount >= 0),
    currency text NOT NULL,
    restock boolean NOT NULL,
    cancels boolean NOT NULL,
    reason text,
    state text NOT NULL CHECK (state IN ('pending', 'succeeded', 'failed')),
    reference text,
    failure text,
    requested_at timestamptz NOT NULL,
    settled_at timestamptz,
    restocked_at timestamptz,
    PRIMARY KEY (refund_id, ordered_at),
    FOREIGN KEY (order_id, ordered_at) REFERENCES doorbuster.orders (order_id, created_at) ON DELETE CASCADE
) PARTITION BY RANGE (ordered_at);
CREATE INDEX refunds_of_order ON doorbuster.refunds (order_id, ordered_at);
CREATE INDEX refunds_by_settling ON doorbuster.refunds (settled_at);
COMMENT ON TABLE doorbuster.refunds IS 'Refunds, cancellations of paid orders included.';
COMMENT ON COLUMN doorbuster.refunds.refund_id IS 'Its id, as on the wire.';
COMMENT ON COLUMN doorbuster.refunds.order_id IS 'Of which order.';
COMMENT ON COLUMN doorbuster.refunds.ordered_at IS 'The order''s created_at; decides the partition.';
COMMENT ON COLUMN doorbuster.refunds.amount IS 'How much, in minor units.';
COMMENT ON COLUMN doorbuster.refunds.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN doorbuster.refunds.restock IS 'Whether its units go back on the shelf.';
COMMENT ON COLUMN doorbuster.refunds.cancels IS 'Whether it calls the whole order off.';
COMMENT ON COLUMN doorbuster.refunds.reason IS 'Why, in the caller''s words.';
COMMENT ON COLUMN doorbuster.refunds.state IS 'pending, succeeded or failed.';
COMMENT ON COLUMN doorbuster.refunds.reference IS 'The provider''s name for it.';
COMMENT ON COLUMN doorbuster.refunds.failure IS 'Why the provider refused it.';
COMMENT ON COLUMN doorbuster.refunds.requested_at IS 'When it was asked for.';
COMMENT ON COLUMN doorbuster.refunds.settled_at IS 'When it succeeded or failed.';
COMMENT ON COLUMN doorbuster.refunds.restocked_at IS 'When its units were back on the shelf.';

CREATE TABLE doorbuster.refund_lines (
    refund_id text NOT NULL,
    ordered_at timestamptz NOT NULL,
    line integer NOT NULL,
    quantity bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (refund_id, ordered_at, line),
    FOREIGN KEY (refund_id, ordered_at) REFERENCES doorbuster.refunds (refund_id, ordered_at) ON DELETE CASCADE
) PARTITION BY RANGE (ordered_at);
COMMENT ON TABLE doorbuster.refund_lines IS 'Units of refunds.';
COMMENT ON COLUMN doorbuster.refund_lines.refund_id IS 'Of which refund.';
COMMENT ON COLUMN doorbuster.refund_lines.ordered_at IS 'The order''s created_at; decides the partition.';
COMMENT ON COLUMN doorbuster.refund_lines.line IS 'Which line of the order.';
COMMENT ON COLUMN doorbuster.refund_lines.quantity IS 'How many units of it.';

CREATE TABLE doorbuster.fulfilments (
    fulfilment_id text NOT NULL,
    order_id text NOT NULL,
    ordered_at timestamptz NOT NULL,
    tracking text,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (fulfilment_id, ordered_at),
    FOREIGN KEY (order_id, ordered_at) REFERENCES doorbuster.orders (order_id, created_at) ON DELETE CASCADE
) PARTITION BY RANGE (ordered_at);
CREATE INDEX fulfilments_of_order ON doorbuster.fulfilments (order_id, ordered_at);
COMMENT ON TABLE doorbuster.fulfilments IS 'Units of orders handed to the carrier.';
COMMENT ON COLUMN doorbuster.fulfilments.fulfilment_id IS 'Its id, as on the wire.';
COMMENT ON COLUMN doorbuster.fulfilments.order_id IS 'Of which order.';
COMMENT ON COLUMN doorbuster.fulfilments.ordered_at IS 'The order''s created_at; decides the partition.';
COMMENT ON COLUMN doorbuster.fulfilments.tracking IS 'The carrier''s tracking number.';
COMMENT ON COLUMN doorbuster.fulfilments.created_at IS 'When.';

CREATE TABLE doorbuster.fulfilment_lines (
    fulfilment_id text NOT NULL,
    ordered_at timestamptz NOT NULL,
    line integer NOT NULL,
    quantity bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (fulfilment_id, ordered_at, line),
    FOREIGN KEY (fulfilment_id, ordered_at) REFERENCES doorbuster.fulfilments (fulfilment_id, ordered_at)
        ON DELETE CASCADE
) PARTITION BY RANGE (ordered_at);
COMMENT ON TABLE doorbuster.fulfilment_lines IS 'Units of fulfilments.';
COMMENT ON COLUMN doorbuster.fulfilment_lines.fulfilment_id IS 'Of which fulfilment.';
COMMENT ON COLUMN doorbuster.fulfilment_lines.ordered_at IS 'The order''s created_at; decides the partition.';
COMMENT ON COLUMN doorbuster.fulfilment_lines.line IS 'Which line of the order.';
COMMENT ON COLUMN doorbuster.fulfilment_lines.quantity IS 'How many units of it.';

-- No foreign key: some five rows an order, written in the order's own transaction; a check of each would be a third of
-- the cost of catching up.
CREATE TABLE doorbuster.order_timeline (
    order_id text NOT NULL,
    ordered_at timestamptz NOT NULL,
    position bigint NOT NULL,
    at timestamptz NOT NULL,
    kind text NOT NULL,
    detail text,
    PRIMARY KEY (order_id, ordered_at, position)
) PARTITION BY RANGE (ordered_at);
COMMENT ON TABLE doorbuster.order_timeline IS 'What happened to each order: its first 500 steps.';
COMMENT ON COLUMN doorbuster.order_timeline.order_id IS 'To which order.';
COMMENT ON COLUMN doorbuster.order_timeline.ordered_at IS 'The order''s created_at; decides the partition.';
COMMENT ON COLUMN doorbuster.order_timeline.position IS 'Where the event stands among all events of the engine.';
COMMENT ON COLUMN doorbuster.order_timeline.at IS 'When.';
COMMENT ON COLUMN doorbuster.order_timeline.kind IS 'What, e.g. units_reserved; as on the wire.';
COMMENT ON COLUMN doorbuster.order_timeline.detail IS 'More, for people.';

-- Makes the partitions of the month that `moment` lies in. Attached rather than created in place, so that readers of
-- the other months are not locked out.
CREATE FUNCTION doorbuster.make_month(moment timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    begins timestamp := date_trunc('month', moment AT TIME ZONE 'UTC');
    parent text;
    part text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['orders', 'order_lines', 'payments', 'refunds', 'refund_lines', 'fulfilments',
        'fulfilment_lines', 'order_timeline']
    LOOP
        part := parent || to_char(begins, '_YYYY_MM');
        IF to_regclass('doorbuster.' || part) IS NULL THEN
            EXECUTE format('CREATE TABLE doorbuster.%I (LIKE doorbuster.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
                part, parent);
            EXECUTE format('ALTER TABLE doorbuster.%I ATTACH PARTITION doorbuster.%I FOR VALUES FROM (%L) TO (%L)',
                parent, part, begins AT TIME ZONE 'UTC', (begins + interval '1 month') AT TIME ZONE 'UTC');
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION doorbuster.make_month(timestamptz) IS 'Makes the partitions of a month where they are missing.';
