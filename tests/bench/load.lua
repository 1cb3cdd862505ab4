-- Load for wrk: without BODIES, GETs; with it, POSTs of its lines in turn. Prints percentiles in microseconds.
local bodies = {}
local turn = 0

function init()
  wrk.headers["Authorization"] = os.getenv("AUTHORIZATION")
  if os.getenv("CONNECTION") then
    wrk.headers["Connection"] = os.getenv("CONNECTION")
  end
  if os.getenv("BODIES") then
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
    for line in io.lines(os.getenv("BODIES")) do
      bodies[#bodies + 1] = wrk.format(nil, nil, nil, line)
    end
  end
end

function request()
  if #bodies == 0 then return wrk.format() end
  turn = turn % #bodies + 1
  return bodies[turn]
end

function done(summary, latency)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write
  failed = failed + summary.errors.status + summary.errors.timeout
  print(string.format("RESULT %d %d %d %f", latency:percentile(50), latency:percentile(99), failed,
    summary.requests / summary.duration * 1e6))
end
