-- What people ask most, as views. They read the projection only; drop or replace none of them: make your own beside.

CREATE SCHEMA reporting;
COMMENT ON SCHEMA reporting IS 'Views over the projection, for people and dashboards.';

CREATE FUNCTION reporting.major(amount numeric, currency text) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN currency IN ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND',
            'VUV', 'XAF', 'XOF', 'XPF') THEN round(amount)
        WHEN currency IN ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') THEN round(amount / 1000, 3)
        WHEN currency IN ('CLF', 'UYW') THEN round(amount / 10000, 4)
        ELSE round(amount / 100, 2)
    END
$$;
COMMENT ON FUNCTION reporting.major(numeric, text) IS 'An amount of minor units in major ones: 1999 GBP is 19.99.';

CREATE VIEW reporting.orders_per_minute AS
SELECT date_trunc('minute', o.placed_at, 'UTC') AS minute, o.currency, count(*) AS orders,
    sum(u.units)::bigint AS units, sum(o.total)::bigint AS revenue_minor, reporting.major(sum(o.total), o.currency) AS revenue
FROM doorbuster.orders o
CROSS JOIN LATERAL (
    SELECT sum(l.quantity) AS units FROM doorbuster.order_lines l
    WHERE l.order_id = o.order_id AND l.ordered_at = o.created_at
) u
WHERE o.placed_at IS NOT NULL
GROUP BY 1, 2;
COMMENT ON VIEW reporting.orders_per_minute IS 'Orders placed in each minute, later cancellations included.';
COMMENT ON COLUMN reporting.orders_per_minute.minute IS 'Begin of the minute, UTC.';
COMMENT ON COLUMN reporting.orders_per_minute.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN reporting.orders_per_minute.orders IS 'Orders placed.';
COMMENT ON COLUMN reporting.orders_per_minute.units IS 'Units in them.';
COMMENT ON COLUMN reporting.orders_per_minute.revenue_minor IS 'Sum of their totals, in minor units.';
COMMENT ON COLUMN reporting.orders_per_minute.revenue IS 'Sum of their totals, in major units.';

CREATE VIEW reporting.revenue_per_hour AS
SELECT hour, currency, sum(orders)::bigint AS orders, sum(gross)::bigint AS gross_minor, sum(back)::bigint AS refunded_minor,
    (sum(gross) - sum(back))::bigint AS net_minor, reporting.major(sum(gross) - sum(back), currency) AS net
FROM (
    SELECT date_trunc('hour', placed_at, 'UTC') AS hour, currency, 1 AS orders, captured AS gross, 0 AS back
    FROM doorbuster.orders WHERE placed_at IS NOT NULL
    UNION ALL
    SELECT date_trunc('hour', settled_at, 'UTC'), currency, 0, 0, amount
    FROM doorbuster.refunds WHERE state = 'succeeded'
) movements
GROUP BY 1, 2;
COMMENT ON VIEW reporting.revenue_per_hour IS 'Money by the hour in which it came or went back.';
COMMENT ON COLUMN reporting.revenue_per_hour.hour IS 'Begin of the hour, UTC.';
COMMENT ON COLUMN reporting.revenue_per_hour.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN reporting.revenue_per_hour.orders IS 'Orders placed.';
COMMENT ON COLUMN reporting.revenue_per_hour.gross_minor IS 'Money captured, in minor units.';
COMMENT ON COLUMN reporting.revenue_per_hour.refunded_minor IS 'Money refunded, in minor units.';
COMMENT ON COLUMN reporting.revenue_per_hour.net_minor IS 'The difference, in minor units.';
COMMENT ON COLUMN reporting.revenue_per_hour.net IS 'The difference, in major units.';

CREATE VIEW reporting.sell_through AS
SELECT s.sku, s.name, l.received, l.sold, l.on_hand, l.reserved, l.available,
    CASE WHEN l.received > 0 THEN round(100.0 * l.sold / l.received, 1) END AS sold_percent
FROM doorbuster.skus s JOIN doorbuster.stock_levels l USING (sku);
COMMENT ON VIEW reporting.sell_through IS 'How much of what was received is sold, by SKU.';
COMMENT ON COLUMN reporting.sell_through.sku IS 'Which SKU.';
COMMENT ON COLUMN reporting.sell_through.name IS 'Its name.';
COMMENT ON COLUMN reporting.sell_through.received IS 'Opening + receipts + net adjustments.';
COMMENT ON COLUMN reporting.sell_through.sold IS 'Units committed and not restocked.';
COMMENT ON COLUMN reporting.sell_through.on_hand IS 'Physical units.';
COMMENT ON COLUMN reporting.sell_through.reserved IS 'Units set aside.';
COMMENT ON COLUMN reporting.sell_through.available IS 'on_hand - reserved.';
COMMENT ON COLUMN reporting.sell_through.sold_percent IS '100 × sold / received; null where nothing was received.';

CREATE VIEW reporting.abandoned_carts AS
SELECT cart_id, state, currency, units, subtotal AS subtotal_minor, reporting.major(subtotal, currency) AS subtotal,
    created_at, changed_at, now() - changed_at AS idle
FROM doorbuster.carts
WHERE units > 0 AND (state = 'expired' OR (state = 'open' AND changed_at < now() - interval '1 hour'));
COMMENT ON VIEW reporting.abandoned_carts IS 'Carts with something in them that ended by time, or were not touched for an hour.';
COMMENT ON COLUMN reporting.abandoned_carts.cart_id IS 'Its id.';
COMMENT ON COLUMN reporting.abandoned_carts.state IS 'open or expired.';
COMMENT ON COLUMN reporting.abandoned_carts.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN reporting.abandoned_carts.units IS 'Units in it.';
COMMENT ON COLUMN reporting.abandoned_carts.subtotal_minor IS 'What they would cost, in minor units.';
COMMENT ON COLUMN reporting.abandoned_carts.subtotal IS 'What they would cost, in major units.';
COMMENT ON COLUMN reporting.abandoned_carts.created_at IS 'When it was made.';
COMMENT ON COLUMN reporting.abandoned_carts.changed_at IS 'When it was last touched.';
COMMENT ON COLUMN reporting.abandoned_carts.idle IS 'How long ago that is.';

CREATE VIEW reporting.cart_abandonment AS
SELECT date_trunc('day', created_at, 'UTC') AS day, count(*) AS carts, count(*) FILTER (WHERE state = 'ordered') AS ordered,
    count(*) FILTER (WHERE state = 'expired' OR (state = 'open' AND changed_at < now() - interval '1 hour')) AS abandoned,
    round(100.0 * count(*) FILTER (WHERE state = 'expired' OR (state = 'open' AND changed_at < now() - interval '1 hour'))
        / count(*), 1) AS abandoned_percent
FROM doorbuster.carts WHERE units > 0
GROUP BY 1;
COMMENT ON VIEW reporting.cart_abandonment IS 'What became of carts with something in them, by the day they were made.';
COMMENT ON COLUMN reporting.cart_abandonment.day IS 'Begin of the day, UTC.';
COMMENT ON COLUMN reporting.cart_abandonment.carts IS 'Carts made that day.';
COMMENT ON COLUMN reporting.cart_abandonment.ordered IS 'Of these, carts that became orders.';
COMMENT ON COLUMN reporting.cart_abandonment.abandoned IS 'Of these, carts as in abandoned_carts.';
COMMENT ON COLUMN reporting.cart_abandonment.abandoned_percent IS '100 × abandoned / carts.';

CREATE VIEW reporting.top_skus AS
SELECT l.sku, max(l.name) AS name, o.currency, count(DISTINCT o.order_id) AS orders, sum(l.quantity)::bigint AS units,
    sum(l.refunded)::bigint AS units_refunded, sum(l.total)::bigint AS revenue_minor,
    reporting.major(sum(l.total), o.currency) AS revenue
FROM doorbuster.order_lines l
JOIN doorbuster.orders o ON o.order_id = l.order_id AND o.created_at = l.ordered_at
WHERE o.placed_at IS NOT NULL AND o.state <> 'cancelled'
GROUP BY l.sku, o.currency;
COMMENT ON VIEW reporting.top_skus IS 'What sells: placed orders by SKU, without cancelled ones. Order by revenue or units yourself.';
COMMENT ON COLUMN reporting.top_skus.sku IS 'Which SKU.';
COMMENT ON COLUMN reporting.top_skus.name IS 'A name it was ordered under.';
COMMENT ON COLUMN reporting.top_skus.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN reporting.top_skus.orders IS 'Orders with it.';
COMMENT ON COLUMN reporting.top_skus.units IS 'Units ordered.';
COMMENT ON COLUMN reporting.top_skus.units_refunded IS 'Of these, units refunded.';
COMMENT ON COLUMN reporting.top_skus.revenue_minor IS 'Sum of the lines, in minor units, before refunds.';
COMMENT ON COLUMN reporting.top_skus.revenue IS 'The same, in major units.';
