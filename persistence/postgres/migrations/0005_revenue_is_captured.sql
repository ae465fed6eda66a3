-- Revenue is money that was captured. An order whose payment is only authorized stands, and counts as an order; what it brings
-- in counts from the moment in which it is ours, and never if that moment does not come. Money is captured whole or not at all.

CREATE OR REPLACE VIEW reporting.orders_per_minute AS
SELECT date_trunc('minute', o.placed_at, 'UTC') AS minute, o.currency, count(*) AS orders,
    sum(u.units)::bigint AS units, sum(o.captured)::bigint AS revenue_minor, reporting.major(sum(o.captured), o.currency) AS revenue
FROM doorbuster.orders o
CROSS JOIN LATERAL (
    SELECT sum(l.quantity) AS units FROM doorbuster.order_lines l
    WHERE l.order_id = o.order_id AND l.ordered_at = o.created_at
) u
WHERE o.placed_at IS NOT NULL
GROUP BY 1, 2;
COMMENT ON COLUMN reporting.orders_per_minute.orders IS 'Orders placed, paid or with a payment that is authorized.';
COMMENT ON COLUMN reporting.orders_per_minute.revenue_minor IS 'Money captured for them so far, in minor units, before refunds.';
COMMENT ON COLUMN reporting.orders_per_minute.revenue IS 'Money captured for them so far, in major units, before refunds.';

CREATE OR REPLACE VIEW reporting.revenue_per_hour AS
SELECT hour, currency, sum(orders)::bigint AS orders, sum(gross)::bigint AS gross_minor, sum(back)::bigint AS refunded_minor,
    (sum(gross) - sum(back))::bigint AS net_minor, reporting.major(sum(gross) - sum(back), currency) AS net
FROM (
    SELECT date_trunc('hour', placed_at, 'UTC') AS hour, currency, 1 AS orders, 0::bigint AS gross, 0::bigint AS back
    FROM doorbuster.orders WHERE placed_at IS NOT NULL
    UNION ALL
    SELECT date_trunc('hour', settled_at, 'UTC'), currency, 0, amount, 0
    FROM doorbuster.payments WHERE state IN ('captured', 'partially_refunded', 'refunded')
    UNION ALL
    SELECT date_trunc('hour', settled_at, 'UTC'), currency, 0, 0, amount
    FROM doorbuster.refunds WHERE state = 'succeeded'
) movements
GROUP BY 1, 2;
COMMENT ON COLUMN reporting.revenue_per_hour.orders IS 'Orders placed in it, paid or with a payment that is authorized.';
COMMENT ON COLUMN reporting.revenue_per_hour.gross_minor IS 'Money captured in it, in minor units.';

CREATE OR REPLACE VIEW reporting.top_skus AS
SELECT l.sku, max(l.name) AS name, o.currency, count(DISTINCT o.order_id) AS orders, sum(l.quantity)::bigint AS units,
    sum(l.refunded)::bigint AS units_refunded, coalesce(sum(l.total) FILTER (WHERE o.captured = o.total), 0)::bigint AS revenue_minor,
    reporting.major(coalesce(sum(l.total) FILTER (WHERE o.captured = o.total), 0), o.currency) AS revenue
FROM doorbuster.order_lines l
JOIN doorbuster.orders o ON o.order_id = l.order_id AND o.created_at = l.ordered_at
WHERE o.placed_at IS NOT NULL AND o.state <> 'cancelled'
GROUP BY l.sku, o.currency;
COMMENT ON COLUMN reporting.top_skus.orders IS 'Orders with it, paid or with a payment that is authorized.';
COMMENT ON COLUMN reporting.top_skus.revenue_minor IS 'Sum of the lines whose money was captured, in minor units, before refunds.';

COMMENT ON COLUMN doorbuster.orders.placed_at IS 'When its payment was authorized or captured (or none was needed): from here on it counts as an order.';
COMMENT ON COLUMN doorbuster.orders.captured IS 'Money taken, in minor units: 0 while the payment is only authorized. From here on it counts as revenue.';
COMMENT ON COLUMN doorbuster.payments.settled_at IS 'When it was certain: captured, declined or voided. Null while authorized.';
