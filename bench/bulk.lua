-- wrk: POST /pins with the bodies of the files named after `--`, one after the other.
local bodies = {}
local headers = { ["Content-Type"] = "application/x-ndjson" }
local at = 0

function init(args)
  for _, name in ipairs(args) do
    local file = io.open(name, "rb")
    bodies[#bodies + 1] = wrk.format("POST", "/pins", headers, file:read("*a"))
    file:close()
  end
end

function request()
  at = at % #bodies + 1
  return bodies[at]
end

function done(summary, latency)
  local errors = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format("RESULT %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(99), errors))
end
