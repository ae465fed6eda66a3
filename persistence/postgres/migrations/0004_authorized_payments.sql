-- Payments are authorized first and captured once the order's units are sold.

DO $$
DECLARE
    part regclass;
BEGIN
    -- Partitions bear the check as their own too, so dropping the parent's alone would leave theirs.
    ALTER TABLE doorbuster.payments DROP CONSTRAINT payments_state_check;
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'doorbuster.payments'::regclass LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS payments_state_check', part);
    END LOOP;
    ALTER TABLE doorbuster.payments ADD CONSTRAINT payments_state_check CHECK (state IN ('pending', 'requires_action',
        'authorized', 'captured', 'declined', 'voided', 'partially_refunded', 'refunded'));
END
$$;

COMMENT ON COLUMN doorbuster.payments.state IS 'pending, requires_action, authorized (held for us, not ours yet), captured, declined, voided, partially_refunded or refunded.';
