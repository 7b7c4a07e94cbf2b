-- wrk's side of the load: sends the requests of a file, each once and in order. A record of the file is the
-- request's length in six digits, then the request. Arguments: the file, and the mean pause of a connection between
-- an answer and its next request, in milliseconds (0: none).

local threads = {}

function setup(thread)
   table.insert(threads, thread)
end

function init(arguments)
   file = assert(io.open(arguments[1], "rb"))
   begun_again = 0
   local pause = tonumber(arguments[2])
   if pause > 0 then
      math.randomseed(os.time())
      -- wrk looks for a global function of this name.
      delay = function()
         return math.random(0, 2 * pause)
      end
   end
end

function request()
   local length = file:read(6)
   if length == nil then
      file:seek("set", 0)
      begun_again = begun_again + 1
      length = file:read(6)
   end
   return file:read(tonumber(length))
end

function done(summary, latency, requests)
   local rounds = 0
   for _, thread in ipairs(threads) do
      rounds = rounds + thread:get("begun_again")
   end
   local errors = summary.errors
   io.write(string.format(
      'RESULT {"answers": %d, "microseconds": %d, "not_ok": %d, "broken": %d, "begun_again": %d, "p50_us": %d, "p99_us": %d}\n',
      summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
      rounds, latency:percentile(50), latency:percentile(99)))
end
