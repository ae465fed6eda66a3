-- KEYS: the SKU's stock, the reservation under its idempotency key. ARGV: units, time to live in seconds, customer.
-- Returns what is granted, also for a key that was there; -1 where too little is left.
local known = redis.call('HGET', KEYS[2], 'units')
if known then
    return tonumber(known)
end
local units = tonumber(ARGV[1])
local stock = redis.call('HMGET', KEYS[1], 'on_hand', 'reserved')
if tonumber(stock[1]) - tonumber(stock[2]) < units then
    return -1
end
redis.call('HINCRBY', KEYS[1], 'reserved', units)
redis.call('HSET', KEYS[2], 'units', ARGV[1], 'customer', ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return units
