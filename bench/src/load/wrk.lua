-- Arguments: seed, method, what paths begin with, bytes of the body.
-- A request is put together from a template, so that a random path costs one small string.

local head, tail, random, format
local bodies = {}

function init(args)
  math.randomseed(tonumber(args[1]))
  random, format = math.random, string.format
  local size = tonumber(args[4])
  local body = size > 0 and string.rep("x", size) or nil
  local template = wrk.format(args[2], args[3] .. "SIXDIG", nil, body)
  local first, last = template:find("SIXDIG", 1, true)
  head, tail = template:sub(1, first - 1), template:sub(last + 1)
  if body then
    -- Long strings are made once, not for each request.
    for index = 1, 256 do
      bodies[index] = head .. format("%06d", random(0, 999999)) .. tail
    end
    request = function() return bodies[random(256)] end
  end
end

function request()
  return head .. format("%06d", random(0, 999999)) .. tail
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"bytes":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d,' ..
    '"errors":{"connect":%d,"exchange":%d,"status":%d,"timeout":%d}}\n',
    summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    e.connect, e.read + e.write, e.status, e.timeout))
end
