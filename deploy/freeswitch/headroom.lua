-- Headroom: call admission for FreeSWITCH. README.md beside this file says how it is used.
--
--   headroom.lua ask [SERVICE]    in the dialplan, before answer: asks for the inbound leg
--   headroom.lua gateway          in the dialplan, before each bridge: asks for both legs, sets headroom_dial
--   headroom.lua ended UUID ...   as api_hangup_hook: these legs ended
--   headroom.lua media UUID       a leg's media changed
--   headroom.lua sync             brings the node's list of legs in line with the channels that run
--   headroom.lua start            as startup-script: sync now and every 30 seconds

local NODE = "http://127.0.0.1:7500" -- the conferencing node on this host
local SOURCE = "fs-1"                 -- this media server's name: one of its own for each that uses the node
local UNDECIDED = "permit"            -- no decision from the node: "permit" or "refuse"
local RETRY_AFTER = 60                -- seconds in Retry-After of a refusal
local TIMES = "connect-timeout 1 timeout 2" -- whole seconds; the node's own budget is 0.9 s

local api, json = freeswitch.API(), freeswitch.JSON()

local function log(level, text)
  freeswitch.consoleLog(level, "headroom: " .. text .. "\n")
end

-- Percent-encoding, for paths and for the bodies that mod_curl decodes.
local function encoded(text)
  return (text:gsub("[^%w%-%._~]", function(c) return string.format("%%%02X", c:byte()) end))
end

-- A JSON string of at most 255 bytes, ASCII only.
local function quoted(text)
  return '"' .. text:gsub("[^\32-\126]", "?"):sub(1, 255):gsub('[\\"]', "\\%0") .. '"'
end

-- Status and body of the answer; 0 when there is none.
local function request(method, path, body)
  local line = NODE .. path .. " json content-type application/json " .. TIMES .. " " .. method
  local answer = json:decode(api:execute("curl", line .. (body and " " .. encoded(body) or "")) or "") or {}
  local status, content = tonumber(answer.status_code) or 0, answer.body and json:decode(answer.body)
  if (answer.exit_code or "0") ~= "0" or status == 0 or not content then
    log("ERR", method .. " " .. path .. ": no answer")
    return 0, {}
  end
  for _, header in ipairs(answer.headers or {}) do
    if header.key:lower() == "retry-after" then content.retry_after = header.value end
  end
  return status, content
end

local function exists(uuid) return api:execute("uuid_exists", uuid) == "true" end

local function variable(uuid, name)
  local value = api:execute("uuid_getvar", uuid .. " " .. name)
  if value and value ~= "" and value ~= "_undef_" and value:sub(1, 4) ~= "-ERR" then return value end
end

-- What the far end's description offers; audio while there is none.
local function media(sdp)
  local function on(kind)
    local port = sdp and sdp:match("m=" .. kind .. " (%d+)")
    return port ~= nil and port ~= "0"
  end
  return string.format('{"audio":%s,"video":%s}', tostring(not sdp or on("audio")), tostring(on("video")))
end

local function leg(uuid, participant, direction, described, replaces)
  return string.format('{"leg":%s,"participant":%s,"protocol":"sip","direction":"%s","media":%s%s}',
    quoted(uuid), quoted(participant), direction, described, replaces and ',"replaces":' .. quoted(replaces) or "")
end

local function call(id, service, legs, running)
  return request("post", "/v1/calls", string.format('{"call":%s,"service":%s,"source":%s%s,"legs":[%s]}',
    quoted(id), quoted(service), quoted(SOURCE), running and ',"running":true' or "", table.concat(legs, ",")))
end

-- 503 with Retry-After, and the sentence in Reason.
local function refuse(text, retry_after)
  log("WARNING", "refused: " .. text)
  session:setVariable("headroom_text", text)
  session:setVariable("sip_rh_Retry-After", tostring(retry_after or RETRY_AFTER))
  session:setVariable("sip_reason", "Q.850;cause=41;text=" .. quoted(text))
  session:setVariable("sip_ignore_remote_cause", "true")
  session:hangup("NORMAL_TEMPORARY_FAILURE")
end

-- Acts on the answer to a question; true when the legs may run.
local function decided(status, answer)
  local text = answer.text or "The system cannot decide now. Please try again later."
  if status == 200 then return true end
  if status >= 400 and status < 500 then
    refuse(text)
    return false
  end
  log("ERR", "no decision: " .. status .. " " .. (answer.field or "") .. " " .. text)
  if UNDECIDED == "permit" then return true end
  refuse("The system cannot decide now. Please try again later.", answer.retry_after)
  return false
end

local function ask(service, gateway)
  local uuid = session:getVariable("uuid")
  local id, before = session:getVariable("headroom_call") or uuid, session:getVariable("headroom_out")
  local from = "sip:" .. (session:getVariable("sip_from_uri") or session:getVariable("caller_id_number") or "")
  local to = session:getVariable("destination_number") or ""
  local described = media(session:getVariable("switch_r_sdp"))
  local legs, out = { leg(uuid, from, "in", described) }, nil
  if gateway then
    out = api:execute("create_uuid", "")
    legs[2] = leg(out, to, "out", described, before)
  end
  session:setVariable("api_hangup_hook", "lua headroom.lua ended " .. uuid .. (out and " " .. out or ""))
  if not decided(call(id, service, legs, false)) then return end
  session:setVariable("headroom_call", id)
  session:setVariable("headroom_service", service)
  if out then
    session:setVariable("headroom_out", out)
    session:setVariable("headroom_dial", string.format("{origination_uuid=%s,headroom_call=%s," ..
      "headroom_service=gateway,api_hangup_hook='lua headroom.lua ended %s'}", out, id, out))
  end
end

-- The first leg is the one whose hook this is; another one has its own hook as long as its channel exists.
local function ended(uuids)
  for index, uuid in ipairs(uuids) do
    if index == 1 or not exists(uuid) then request("delete", "/v1/legs/" .. encoded(uuid)) end
  end
end

local function changed(uuid)
  if not variable(uuid, "headroom_call") then return end
  local described = media(variable(uuid, "switch_r_sdp"))
  local status, answer = request("patch", "/v1/legs/" .. encoded(uuid), '{"media":' .. described .. "}")
  if status ~= 200 then log("WARNING", uuid .. ": " .. status .. " " .. (answer.text or "")) end
end

-- Tells of legs that run and that the node does not know, the legs of one call together. They are not denied.
local function tell(uuids)
  local calls = {}
  for _, uuid in ipairs(uuids) do
    local id = variable(uuid, "headroom_call")
    if id then
      calls[id] = calls[id] or { service = variable(uuid, "headroom_service") or "vmr", uuids = {}, legs = {} }
      local direction = variable(uuid, "direction") == "outbound" and "out" or "in"
      local participant = variable(uuid, direction == "in" and "sip_from_uri" or "sip_to_uri") or ""
      table.insert(calls[id].uuids, uuid)
      table.insert(calls[id].legs, leg(uuid, "sip:" .. participant, direction, media(variable(uuid, "switch_r_sdp"))))
    end
  end
  for id, told in pairs(calls) do
    local status, answer = call(id, told.service, told.legs, true)
    if status == 409 and answer.error == "revoked" then
      for _, uuid in ipairs(told.uuids) do api:execute("uuid_kill", uuid) end
    elseif status ~= 200 then
      log("ERR", "call " .. id .. " runs without a lease: " .. status .. " " .. (answer.text or ""))
    end
  end
end

local function sync()
  local status, list = request("get", "/v1/legs?source=" .. encoded(SOURCE))
  if status ~= 200 then return end
  local known, running = {}, {}
  for _, held in ipairs(list.legs) do
    known[held.leg] = true
    if exists(held.leg) then
      table.insert(running, quoted(held.leg))
      if held.revoked then api:execute("uuid_kill", held.leg) end
    end
  end
  local channels = json:decode(api:execute("show", "channels as json") or "") or {}
  for _, channel in ipairs(channels.rows or {}) do
    if not known[channel.uuid] and variable(channel.uuid, "headroom_call") then
      table.insert(running, quoted(channel.uuid))
    end
  end
  local body = string.format('{"source":%s,"as_of":%.0f,"legs":[%s]}',
    quoted(SOURCE), list.as_of, table.concat(running, ","))
  status, list = request("put", "/v1/legs", body)
  if status == 200 then tell(list.unknown) else log("ERR", "sync: " .. status .. " " .. (list.text or "")) end
end

local what = table.remove(argv, 1)
if what == "ask" then ask(argv[1] or "vmr", false)
elseif what == "gateway" then ask("gateway", true)
elseif what == "ended" then ended(argv)
elseif what == "media" then changed(argv[1])
elseif what == "event" then api:execute("luarun", "headroom.lua media " .. event:getHeader("Unique-ID"))
elseif what == "sync" then sync()
elseif what == "start" then
  api:execute("sched_api", "@30 headroom lua headroom.lua sync&")
  sync()
else log("ERR", "unknown: " .. tostring(what)) end
