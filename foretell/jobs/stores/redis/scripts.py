"""The changes of the store, in Lua: the server runs each script whole, and none if it has no room for it.

A job is a hash; a field that is not there is None. Beside it stand sorted sets, all under one prefix:

    turn:KIND:PRIORITY   waiting jobs by ``due_at``; of the same score, the lower id comes first
    leases               running jobs by ``lease_until``
    ends                 ended jobs by ``expires_at``
    state:STATE, all     jobs by id (every score is 0), to be listed and counted

``keys`` is a hash of owner, NUL and key -> id; ``log:ID`` a list of "TIME TEXT".
"""

from foretell.jobs.job import PRIORITIES
from foretell.jobs.row import COLUMNS
from foretell.jobs.store import ABANDONED, LOG_LINES

SWEPT_AT_ONCE = 1000

ADDS = "#!lua\n"
"""Not begun by a server that has no room left."""

DRAINS = "#!lua flags=allow-oom\n"
"""Begun even then, so that what waits can be done and deleted."""

READS = "#!lua flags=no-writes,allow-oom\n"

WORDS = f"""
local P = KEYS[1]
local call = redis.call
local COLUMNS = {{{", ".join(f"'{name}'" for name in COLUMNS)}}}

local function hash(id) return P .. 'job:' .. id end
local function field(id, name) return call('HGET', hash(id), name) end
local function number(id, name) return tonumber(field(id, name)) end
local function exact(value) return string.format('%.17g', value) end
local function turn(id) return P .. 'turn:' .. field(id, 'kind') .. ':' .. field(id, 'priority') end
local function light(id) return call('HMGET', hash(id), unpack(COLUMNS)) end
local function is_held(id, worker) return field(id, 'state') == 'running' and field(id, 'worker') == worker end

local function move(id, state)
    call('ZREM', P .. 'state:' .. field(id, 'state'), id)
    call('HSET', hash(id), 'state', state)
    call('ZADD', P .. 'state:' .. state, 0, id)
end

local function let_go(id)
    call('HDEL', hash(id), 'worker', 'lease_until')
    call('ZREM', P .. 'leases', id)
    call('ZREM', turn(id), id)
end

local function blame(id, code, message)
    call('HDEL', hash(id), 'error_code', 'error_message')
    if code ~= '' then call('HSET', hash(id), 'error_code', code, 'error_message', message) end
end

local function finish(id, state, now, code, message)
    local expires = exact(tonumber(now) + number(id, 'ttl_s'))
    let_go(id)
    move(id, state)
    blame(id, code, message)
    call('HSET', hash(id), 'finished_at', now, 'expires_at', expires)
    call('ZADD', P .. 'ends', expires, id)
end

local function wait(id, due_at)
    let_go(id)
    move(id, 'waiting')
    call('HSET', hash(id), 'due_at', due_at)
    call('ZADD', turn(id), due_at, id)
end
"""

SUBMIT = (
    ADDS
    + WORDS
    + """
local at = 1
local function next_value() at = at + 1; return ARGV[at - 1] end
local function read()
    local job = {id = next_value(), key = next_value(), fingerprint = next_value(), fields = {}}
    for _ = 1, tonumber(next_value()) do table.insert(job.fields, next_value()) end
    return job
end

local jobs, given, prints = {}, {}, {}
while at <= #ARGV do
    local job = read()
    if job.key ~= '' then
        local there = call('HGET', P .. 'keys', job.key)
        local print = there and field(there, 'fingerprint') or prints[job.key]
        if print and print ~= job.fingerprint and there ~= job.id then return {'key_reused', job.key} end
        prints[job.key] = job.fingerprint
    end
    table.insert(jobs, job)
end

for _, job in ipairs(jobs) do
    local there = job.key ~= '' and call('HGET', P .. 'keys', job.key)
    if not there and call('EXISTS', hash(job.id)) == 1 then there = job.id end
    if there then
        table.insert(given, call('HGETALL', hash(there)))
    else
        call('HSET', hash(job.id), unpack(job.fields))
        call('ZADD', turn(job.id), field(job.id, 'due_at'), job.id)
        call('ZADD', P .. 'state:waiting', 0, job.id)
        call('ZADD', P .. 'all', 0, job.id)
        if job.key ~= '' then call('HSET', P .. 'keys', job.key, job.id) end
        table.insert(given, {})
    end
end
return {'kept', given}
"""
)

CLAIM = (
    DRAINS
    + WORDS
    + f"""
local worker, now, until_, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'leases', '-inf', now, 'LIMIT', 0, {SWEPT_AT_ONCE})) do
    if field(id, 'cancel_wanted') == '1' then
        finish(id, 'cancelled', now, '', '')
    elseif number(id, 'attempts') >= number(id, 'most_attempts') then
        finish(id, 'failed', now, 'job_abandoned', '{ABANDONED}')
    else
        wait(id, field(id, 'due_at'))
    end
end

local function by_turn(one, other)
    if one.due_at ~= other.due_at then return one.due_at < other.due_at end
    return one.id < other.id
end

local function first(priority, count)
    local found = {{}}
    for at = 5, #ARGV do
        local key = P .. 'turn:' .. ARGV[at] .. ':' .. priority
        local flat = call('ZRANGEBYSCORE', key, '-inf', now, 'WITHSCORES', 'LIMIT', 0, count)
        for place = 1, #flat, 2 do table.insert(found, {{id = flat[place], due_at = tonumber(flat[place + 1])}}) end
    end
    table.sort(found, by_turn)
    return found
end

local taken = {{}}
for priority = {PRIORITIES[0]}, {PRIORITIES[-1]} do
    for _, one in ipairs(first(priority, most - #taken)) do
        if #taken == most then break end
        local id = one.id
        call('ZREM', turn(id), id)
        move(id, 'running')
        call('HSET', hash(id), 'worker', worker, 'lease_until', until_, 'started_at', now)
        call('HINCRBY', hash(id), 'attempts', 1)
        call('ZADD', P .. 'leases', until_, id)
        table.insert(taken, call('HGETALL', hash(id)))
    end
end
return taken
"""
)

RENEW = (
    DRAINS
    + WORDS
    + """
local worker, until_, held = ARGV[1], ARGV[2], {}
for at = 3, #ARGV do
    local id = ARGV[at]
    if is_held(id, worker) then
        call('HSET', hash(id), 'lease_until', until_)
        call('ZADD', P .. 'leases', until_, id)
        table.insert(held, id)
        table.insert(held, field(id, 'cancel_wanted'))
    end
end
return held
"""
)

REPORT = (
    DRAINS
    + WORDS
    + """
local id, worker, progress = unpack(ARGV)
if not is_held(id, worker) then return 0 end
call('HSET', hash(id), 'progress', progress)
return 1
"""
)

FINISH = (
    DRAINS
    + WORDS
    + """
local now, ended = ARGV[1], {}
for at = 2, #ARGV, 7 do
    local id, worker, state, code, message, has_result, result = unpack(ARGV, at, at + 6)
    if is_held(id, worker) then
        if has_result == '1' then call('HSET', hash(id), 'result', result) end
        finish(id, state, now, code, message)
        table.insert(ended, id)
    end
end
return ended
"""
)

PUT_BACK = (
    DRAINS
    + WORDS
    + """
local id, worker, due_at, now, code, message = unpack(ARGV)
if not is_held(id, worker) then return false end
if field(id, 'cancel_wanted') == '1' then
    finish(id, 'cancelled', now, '', '')
elseif code ~= '' and number(id, 'attempts') >= number(id, 'most_attempts') then
    finish(id, 'failed', now, code, message)
else
    if code == '' then call('HINCRBY', hash(id), 'attempts', -1) end
    blame(id, code, message)
    wait(id, due_at)
end
return light(id)
"""
)

CANCEL = (
    DRAINS
    + WORDS
    + """
local id, now = unpack(ARGV)
local state = field(id, 'state')
if not state or state == 'expired' then return false end
if state == 'running' then call('HSET', hash(id), 'cancel_wanted', '1') end
if state == 'waiting' then finish(id, 'cancelled', now, '', '') end
return light(id)
"""
)

LIST = (
    READS
    + WORDS
    + """
local which, before, most = unpack(ARGV)
local jobs = {}
for _, id in ipairs(call('ZREVRANGEBYLEX', P .. which, before, '-', 'LIMIT', 0, most)) do table.insert(jobs, light(id)) end
return jobs
"""
)

LOG = (
    ADDS
    + WORDS
    + f"""
local id, line = unpack(ARGV)
if (field(id, 'state') or 'expired') == 'expired' then return end
call('RPUSH', P .. 'log:' .. id, line)
call('LTRIM', P .. 'log:' .. id, -{LOG_LINES}, -1)
"""
)

DELETE_EXPIRED = (
    DRAINS
    + WORDS
    + """
local now, most = ARGV[1], ARGV[2]
local ids = call('ZRANGEBYSCORE', P .. 'ends', '-inf', now, 'LIMIT', 0, most)
for _, id in ipairs(ids) do
    local key, state = field(id, 'key'), field(id, 'state')
    call('DEL', P .. 'log:' .. id)
    call('ZREM', P .. 'all', id)
    call('ZREM', P .. 'state:' .. state, id)
    if key and number(id, 'key_until') > tonumber(now) then
        local until_ = field(id, 'key_until')
        call('HDEL', hash(id), 'result', 'error_code', 'error_message')
        call('HSET', hash(id), 'state', 'expired', 'expires_at', until_, 'spec', '', 'progress', '')
        call('ZADD', P .. 'ends', until_, id)
    else
        if key then call('HDEL', P .. 'keys', field(id, 'owner') .. '\\0' .. key) end
        call('DEL', hash(id))
        call('ZREM', P .. 'ends', id)
    end
end
return #ids
"""
)
