-- Health of a ModelDeployment for Argo CD. The conditions are the truth; `status.phase` is only for printing.
local health = { status = "Progressing", message = "Waiting for the operator" }

if obj.status == nil or obj.status.conditions == nil then
  return health
end

-- A status about an older spec says nothing about this one.
if obj.status.observedGeneration ~= obj.metadata.generation then
  health.message = "Waiting for the operator to see the new spec"
  return health
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end

local function is_true(name)
  return conditions[name] ~= nil and conditions[name].status == "True"
end

local function text_of(name)
  local condition = conditions[name]
  if condition == nil then
    return ""
  end
  if condition.message ~= nil and condition.message ~= "" then
    return condition.message
  end
  return condition.reason or ""
end

-- Stalled: nothing happens any more without a person. A rolled back rollout is one of these cases: the old revision
-- serves, but it is not what Git asks for.
if is_true("Stalled") then
  return { status = "Degraded", message = text_of("Stalled") }
end

-- Paused by its spec, by a command or by a check whose comparison is invalid: the weights stay until somebody decides.
if conditions["Ready"] ~= nil and conditions["Ready"].reason == "CanaryPaused" then
  return { status = "Suspended", message = text_of("Ready") }
end

if is_true("Reconciling") then
  return { status = "Progressing", message = text_of("Reconciling") }
end

if is_true("Ready") then
  return { status = "Healthy", message = text_of("Ready") }
end

health.message = text_of("Ready")
return health
