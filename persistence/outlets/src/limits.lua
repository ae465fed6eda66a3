-- Counts requests against limits that instances share: GCRA, one number a key, the time at which its bucket is empty again.
-- KEYS: one for each limit, all in one slot. ARGV: the time in microseconds or '' for this server's own; then for each key
-- the time that one request uses up in microseconds, how many may come at once, and how many come now.
-- Counts all or, when one has no room, none. Answers four numbers for each: whether it had room, requests that could come now,
-- microseconds until it would have room, microseconds until all of it is free.
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local full, room = {}, true
for index, key in ipairs(KEYS) do
  local interval, burst, cost = tonumber(ARGV[index * 3 - 1]), tonumber(ARGV[index * 3]), tonumber(ARGV[index * 3 + 1])
  full[index] = math.max(tonumber(redis.call('GET', key)) or 0, now)
  room = room and full[index] + interval * (cost - burst) <= now
end
local answer = {}
for index, key in ipairs(KEYS) do
  local interval, burst, cost = tonumber(ARGV[index * 3 - 1]), tonumber(ARGV[index * 3]), tonumber(ARGV[index * 3 + 1])
  local wait = math.max(full[index] + interval * (cost - burst) - now, 0)
  if room and cost > 0 then
    full[index] = full[index] + interval * cost
    -- Written out: by itself Lua keeps 14 digits of a number, and these have 16.
    redis.call('SET', key, string.format('%.0f', full[index]), 'PX', math.ceil((full[index] - now) / 1000))
  end
  local used = full[index] - now
  answer[#answer + 1] = wait == 0 and 1 or 0
  answer[#answer + 1] = math.max(math.floor(burst - used / interval), 0)
  answer[#answer + 1] = wait
  answer[#answer + 1] = used
end
return answer
