-- wrk: POST /pin/ with a fresh unique_id each time.
local template = [[{"category":"mens-fashion","index":7528,"unique_id":"%s","title":"Ten quiet outfits for a summer in the city","description":"Linen, light trainers and one good jacket: ten ways to dress for heat without trying.","follower_count":"893k","tag_list":"Mens Fashion,Casual Outfits,Street Style,Summer Looks,Linen","is_image_or_video":"image","image_src":"https://i.pinimg.com/originals/57/90/b0/5790b00bab6068621985512217fd7d7c.jpg","downloaded":1,"save_location":"Local save in /data/mens-fashion"}]]
local headers = { ["Content-Type"] = "application/json" }
local seed = 0

function setup(thread)
  seed = seed + 1
  thread:set("seed", seed)
end

function init()
  math.randomseed(os.time() * 1000 + seed)
end

function request()
  local id = string.format("%08x-%04x-4%03x-8%03x-%06x%06x", math.random(0, 0x7fffffff), math.random(0, 0xffff),
    math.random(0, 0xfff), math.random(0, 0xfff), math.random(0, 0xffffff), math.random(0, 0xffffff))
  return wrk.format("POST", "/pin/", headers, string.format(template, id))
end

function done(summary, latency)
  local errors = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format("RESULT %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(99), errors))
end
