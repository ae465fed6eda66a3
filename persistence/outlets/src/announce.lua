-- Adds announcements to their streams and moves the offset, all in one step.
--
-- KEYS[1] offset, KEYS[2..5] streams. ARGV[1] engine, [2] where the caller believes the offset to be ('' for nowhere),
-- [3] next frame, [4] mark of the frame before, [5] longest stream, [6] '1' where the streams are begun anew, then eight for
-- each announcement: number of its stream, id there, type, subject, sequence, event id, the event, and the channel to publish
-- it on, or ''.
local names = {'orders', 'inventory', 'carts', 'reservations'}
local held = redis.call('HMGET', KEYS[1], 'engine', 'next_frame', unpack(names))
if held[1] and held[1] ~= ARGV[1] then
  return {'foreign', held[1]}
end
local at = ''
if held[1] then
  at = held[2]
end
if at ~= ARGV[2] then
  return {'elsewhere', at}
end
-- Whether each stream was ever written. One that was and is gone must be refilled before anything makes it anew.
local written = {}
for i = 1, 4 do
  written[i] = '0'
  if ARGV[6] ~= '1' and held[2 + i] == '1' then
    written[i] = '1'
    if redis.call('EXISTS', KEYS[1 + i]) == 0 then
      return {'elsewhere', 'lost'}
    end
  end
end
for i = 7, #ARGV, 8 do
  local stream = tonumber(ARGV[i])
  local added = redis.pcall('XADD', KEYS[1 + stream], 'MAXLEN', '~', ARGV[5], ARGV[i + 1],
    'id', ARGV[i + 5], 'type', ARGV[i + 2], 'subject', ARGV[i + 3], 'sequence', ARGV[i + 4], 'event', ARGV[i + 6])
  if type(added) == 'table' and added.err then
    -- There already: a repeat after an answer that was lost.
    if not string.find(added.err, 'equal or smaller', 1, true) then
      return added
    end
  elseif ARGV[i + 7] ~= '' then
    redis.call('PUBLISH', ARGV[i + 7], ARGV[i + 6])
  end
  written[stream] = '1'
end
redis.call('HSET', KEYS[1], 'engine', ARGV[1], 'next_frame', ARGV[3], 'mark', ARGV[4],
  names[1], written[1], names[2], written[2], names[3], written[3], names[4], written[4])
return {'done', ''}
