"""The scripts that Valkey runs: each looks at all keys of a stream at once, and trusts none of them alone.

KEYS are a stream's `events` and `meta`, and all keys that a script touches are among its KEYS: in a cluster it runs
where those are, and they are all in one hash slot. Channels are in no slot.

Memory that is full may cost either of the two, and nobody promises that what stands there was written by a gateway; so
`kept` compares them. What does not fit together counts as gone, as a whole: whoever has the stream in memory writes it
anew, and nobody is shown a part of it.
"""

_KEPT = """
local function number(text)
  if type(text) == 'string' and #text < 16 and string.match(text, '^%d+$') then return tonumber(text) end
end

local function type_of(key) return redis.call('TYPE', key).ok end

local function kept()
  local types = {type_of(KEYS[1]), type_of(KEYS[2])}
  if types[2] ~= 'hash' then return nil end
  local found = redis.call('HMGET', KEYS[2], 'fence', 'owner', 'first', 'last', 'entries', 'bytes', 'ended', 'void')
  local it = {fence = number(found[1]), owner = found[2], first = number(found[3]), last = number(found[4]),
    entries = number(found[5]), bytes = number(found[6]), ended = found[7] == '1', void = number(found[8]) or 0}
  if not (it.fence and it.owner and it.first and it.last and it.entries and it.bytes) then return nil, it.fence end
  if it.first < 1 then return nil, it.fence end
  if types[1] ~= 'stream' and (types[1] ~= 'none' or it.entries > 0) then return nil, it.fence end
  if it.entries == 0 and it.last ~= it.first - 1 then return nil, it.fence end
  if types[1] == 'stream' then
    if redis.call('XLEN', KEYS[1]) ~= it.entries then return nil, it.fence end
    local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
    if newest and newest[1] ~= found[4] .. '-0' then return nil, it.fence end
  end
  return it, it.fence
end

local function followers()
  local names = {}
  for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
    if string.sub(field, 1, 2) == 'w:' then names[#names + 1] = string.sub(field, 3) end
  end
  return names
end

local function tell(word)
  for _, name in ipairs(followers()) do redis.call('PUBLISH', 'ollagraph:replica:' .. name, word) end
end
"""

APPEND = (
    _KEPT
    + """
local function surely(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) == 'table' and reply.err then
    redis.call('DEL', key)
    redis.call(command, key, ...)
  end
end

local word = string.gmatch(ARGV[1], '%S+')
local mine, first, last, shown = tonumber(word()), tonumber(word()), tonumber(word()), word()
local expiry, most, ends, again, mode = word(), tonumber(word()), word() == '1', word() == '1', word()
local payload, usage, owner, id, request = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local now, fence = kept()
if fence and fence > mine and mode ~= 'anew' then return -1 end
local have = now and now.last or 0
if mode == 'anew' then now, have = nil, 0 end
if have ~= first - 1 and (mode == 'next' or have > first - 1) then return have end
if now and (now.ended or last < first) then return have end
local meta = type_of(KEYS[2])
if meta ~= 'hash' and meta ~= 'none' then redis.call('DEL', KEYS[2]) end
redis.call('HSET', KEYS[2], 'fence', mine)
if not now then redis.call('HDEL', KEYS[2], 'ended', 'void', 'request') end
local start, entries, bytes = first, 0, 0
if now and have == first - 1 then
  start, entries, bytes = now.first, now.entries, now.bytes
else
  redis.call('DEL', KEYS[1])
end
if last >= first then
  redis.call('XADD', KEYS[1], last .. '-0', 'e', payload)
  entries, bytes = entries + 1, bytes + string.len(payload) + 64
end
while bytes > most and entries > 1 do
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  redis.call('XDEL', KEYS[1], oldest[1])
  entries, bytes = entries - 1, math.max(0, bytes - string.len(oldest[2][2]) - 64)
  start = tonumber(string.match(oldest[1], '^%d+')) + 1
end
redis.call('HSET', KEYS[2], 'owner', owner, 'first', start, 'last', last, 'entries', entries,
  'bytes', bytes, 'usage', usage, 'shown', shown)
if mode == 'anew' then redis.call('HSET', KEYS[2], 'void', first - 1) end
if ends then
  redis.call('HDEL', KEYS[2], 'request')
  redis.call('HSET', KEYS[2], 'ended', '1')
elseif request ~= '' then
  redis.call('HSET', KEYS[2], 'request', request)
end
redis.call('PEXPIRE', KEYS[1], expiry)
redis.call('PEXPIRE', KEYS[2], expiry)
if not now and again then redis.call('PUBLISH', 'ollagraph:replicas', 'w' .. id) end
if last < first then return last end
tell('e' .. id .. payload)
if ends then
  local time = redis.call('TIME')
  local at = time[1] * 1000 + math.floor(time[2] / 1000)
  surely('ZADD', KEYS[3], at, ARGV[7] .. ':' .. bytes)
  surely('INCRBY', KEYS[4], bytes)
end
return last
"""
)
"""Returns the last sequence number that is kept now, -1 where another gateway has a newer right.

KEYS: with a terminal event also the book of what has ended: its streams, and what they take.
ARGV: words (fence, first, last, the last number that viewers have seen, expiry in ms, most bytes, whether it ends,
whether it was written before, mode), payload, usage, owner, the id's bytes, request, and with a terminal event the id.
The mode is `next`, or `rebased` where what went before is kept by nobody, or `anew` where what is kept is not to be
shown to anybody: the database says that this gateway may write it, whatever stands here. The client takes as long for
each argument as Valkey for the whole script, so what can stand in one does.

HSET comes before DEL: once a script has written, Valkey no longer asks whether there is memory for the rest.
"""

CLAIM = (
    _KEPT
    + """
local now, fence = kept()
local owner = type_of(KEYS[2]) == 'hash' and redis.call('HGET', KEYS[2], 'owner')
if fence and fence >= tonumber(ARGV[1]) + (owner == ARGV[2] and 1 or 0) then return false end
if not now then return {} end
redis.call('HSET', KEYS[2], 'fence', ARGV[1], 'owner', ARGV[2])
local shown = number(redis.call('HGET', KEYS[2], 'shown')) or 0
if (ARGV[3] == '1' or now.last < shown) and not now.ended then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[2], 'first', now.last + 1, 'entries', 0, 'bytes', 0, 'void', now.last)
  redis.call('HDEL', KEYS[2], 'request')
  now.first, now.void = now.last + 1, now.last
  tell('w' .. ARGV[4])
end
local more = redis.call('HMGET', KEYS[2], 'usage', 'request', 'cancelled')
return {now.first, now.last, now.void, redis.call('XRANGE', KEYS[1], '-', '+'), more[1], more[2], more[3]}
"""
)
"""ARGV: fence, owner, whether what is kept is known not to be the whole, the id's bytes. False for a newer right.

What is not the whole is not kept on. So it is also where the last gateway was killed while it wrote a stream anew.
"""

FOLLOW = (
    _KEPT
    + """
local now = kept()
if ARGV[1] ~= '' and not (now and now.ended) then
  if type_of(KEYS[2]) ~= 'hash' then redis.call('DEL', KEYS[2]) end
  redis.call('HSET', KEYS[2], 'w:' .. ARGV[1], '1')
  if not now then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
end
if not now then return {} end
return {now.first, now.last, now.void, redis.call('XRANGE', KEYS[1], '(' .. ARGV[3] .. '-0', '+')}
"""
)
"""ARGV: the gateway that wants to be told of all that comes, or nothing; an expiry in ms; a sequence number."""

UNFOLLOW = """
if redis.call('TYPE', KEYS[2]).ok ~= 'hash' then return end
redis.call('HDEL', KEYS[2], 'w:' .. ARGV[1])
local owner = redis.call('HGET', KEYS[2], 'owner')
if owner then redis.call('PUBLISH', 'ollagraph:replica:' .. owner, 'u' .. ARGV[2]) end
"""
"""ARGV: the gateway, the id's bytes."""

FOLLOWERS = _KEPT + "if not kept() then return false end return followers()"

LAST = _KEPT + "local now = kept() return now and now.last or 0"

CANCEL = (
    _KEPT
    + """
if not kept() then return {redis.call('PUBLISH', 'ollagraph:replicas', 'c' .. ARGV[1]), false} end
redis.call('HSET', KEYS[2], 'cancelled', '1')
local owner = redis.call('HGET', KEYS[2], 'owner')
return {redis.call('PUBLISH', 'ollagraph:replica:' .. owner, 'c' .. ARGV[1]), owner}
"""
)
"""ARGV: the id's bytes. Returns how many listened, and who is the owner. Where its name is gone, all are told."""

TRIM = """
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then redis.call('DEL', KEYS[1]) end
local function size(member) return tonumber(string.match(member, ':(%d+)$') or '0') end
local bytes = redis.call('TYPE', KEYS[2]).ok == 'string' and string.match(redis.call('GET', KEYS[2]), '^%-?%d+$')
if bytes then
  bytes = tonumber(bytes)
else
  bytes = 0
  for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do bytes = bytes + size(member) end
end
local time, gone, first, last = redis.call('TIME'), {}, 0, 0
local horizon, most = time[1] * 1000 - tonumber(ARGV[1]), tonumber(ARGV[2])
while #gone < 500 do
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  if #oldest == 0 then bytes = 0 break end
  first = tonumber(oldest[2])
  if first >= horizon and first > tonumber(ARGV[3]) and (most < 0 or bytes <= most) then break end
  redis.call('ZREM', KEYS[1], oldest[1])
  bytes = bytes - size(oldest[1])
  gone[#gone + 1] = string.sub(oldest[1], 1, 36)
end
if most < 0 and bytes > 0 then last = tonumber(redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2] or '0') end
local function whole(value) return string.format('%.0f', math.max(-9e15, math.min(9e15, value))) end
if bytes > 0 then redis.call('SET', KEYS[2], whole(bytes)) else redis.call('DEL', KEYS[2]) end
return {whole(bytes), whole(first), whole(last), gone}
"""
"""KEYS: a book. ARGV: milliseconds to keep them, most bytes, or -1, and a time in ms: who ended until then goes.

Returns what the rest takes, when the oldest ended, when the newest did where there is no most, and who is to go.
"""

LEASE = "return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])"
"""ARGV: the gateway that wants to do something for all, and for how many ms nobody else shall."""

PROBE = """
redis.call('SET', KEYS[2], '1')
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[2], 'fence', '1')
redis.call('XADD', KEYS[1], '1-0', 'e', '')
redis.call('PEXPIRE', KEYS[1], 60000)
redis.call('PEXPIRE', KEYS[2], 60000)
if ARGV[1] ~= '' then redis.call('PUBLISH', ARGV[1], 'p') end
"""
"""All that a stream asks of Valkey, in small. ARGV: the channel of the gateway that asks, or nothing.

SET comes first: once a script has written, Valkey no longer asks whether there is memory for the rest.
"""
