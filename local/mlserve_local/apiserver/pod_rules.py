"""Rules for pods and for everything that holds a pod template."""

# The functions are named after what they judge.
# ruff: noqa: D103

from __future__ import annotations

import copy
import re
from typing import Any, Final
from zoneinfo import available_timezones

from mlserve_local.apiserver import quantity
from mlserve_local.apiserver.errors import FieldError, Obj, forbidden_field, invalid_value, not_supported, required
from mlserve_local.apiserver.kind_rules import IMMUTABLE, int_or_percent, non_negative, port, port_name_or_number
from mlserve_local.apiserver.selectors import from_label_selector
from mlserve_local.apiserver.validation import dns_label, labels

_POLICIES: Final = ("Always", "Never", "OnFailure")
_UPDATE_TEXT: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def _volumes(spec: Obj, field: str) -> tuple[list[FieldError], set[str]]:
    """Errors of the volumes, and the names of the sound ones."""
    found: list[FieldError] = []
    names: set[str] = set()
    for index, volume in enumerate(spec.get("volumes") or ()):
        place, before = f"{field}.volumes[{index}]", len(found)
        name = volume.get("name", "")
        if not name:
            found.append(required(f"{place}.name"))
        else:
            found += [invalid_value(f"{place}.name", name, text) for text in dns_label(name)]
            if name in names:
                found.append(FieldError("Duplicate", f"{place}.name", name))
        sources = sorted(set(volume) - {"name"})
        found += [forbidden_field(f"{place}.{s}", "may not specify more than 1 volume type") for s in sources[1:]]
        if "configMap" in volume and not volume["configMap"].get("name"):
            found.append(required(f"{place}.configMap.name"))
        if "secret" in volume and not volume["secret"].get("secretName"):
            found.append(required(f"{place}.secret.secretName"))
        if len(found) == before:
            names.add(name)
    return found, names


def _resources(container: Obj, field: str) -> list[FieldError]:
    found: list[FieldError] = []
    resources = container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in sorted(amounts.items()):
            if quantity.parse(amount) < 0:
                found.append(
                    invalid_value(f"{field}.resources.{kind}[{name}]", amount, "must be greater than or equal to 0")
                )
    for name, amount in sorted(requests.items()):
        if name in limits and quantity.parse(amount) > quantity.parse(limits[name]):
            text = f"must be less than or equal to {name} limit of {limits[name]}"
            found.append(invalid_value(f"{field}.resources.requests", amount, text))
    return found


def _probe(probe: Obj, field: str) -> list[FieldError]:
    handlers = [h for h in ("exec", "httpGet", "tcpSocket", "grpc") if h in probe]
    found = [] if handlers else [required(field, "must specify a handler type")]
    found += [forbidden_field(f"{field}.{h}", "may not specify more than 1 handler type") for h in handlers[1:]]
    for key in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        found += non_negative(probe.get(key), f"{field}.{key}")
    for handler in ("httpGet", "tcpSocket"):
        if handler in probe:
            found += port_name_or_number(probe[handler].get("port"), f"{field}.{handler}.port")
    if not field.endswith("readinessProbe") and probe.get("successThreshold", 1) != 1:
        found.append(invalid_value(f"{field}.successThreshold", probe["successThreshold"], "must be 1"))
    return found


def _container(container: Obj, field: str, volumes: set[str], seen: set[str]) -> list[FieldError]:
    found: list[FieldError] = []
    name = container.get("name", "")
    if not name:
        found.append(required(f"{field}.name"))
    else:
        found += [invalid_value(f"{field}.name", name, text) for text in dns_label(name)]
        if name in seen:
            found.append(FieldError("Duplicate", f"{field}.name", name))
        seen.add(name)
    if not container.get("image"):
        found.append(required(f"{field}.image"))
    for index, entry in enumerate(container.get("ports") or ()):
        found += _port(entry, f"{field}.ports[{index}]")
    for index, env in enumerate(container.get("env") or ()):
        found += _env(env, f"{field}.env[{index}]")
    found += _mounts(container.get("volumeMounts") or [], field, volumes)
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe in container:
            found += _probe(container[probe], f"{field}.{probe}")
    policies = ["Always", "IfNotPresent", "Never"]
    if container.get("imagePullPolicy") not in policies:
        found.append(not_supported(f"{field}.imagePullPolicy", container.get("imagePullPolicy"), policies))
    return found + _resources(container, field)


def _port(entry: Obj, field: str) -> list[FieldError]:
    found = port_name_or_number(entry["name"], f"{field}.name") if entry.get("name") else []
    if "containerPort" not in entry:
        found.append(required(f"{field}.containerPort"))
    else:
        found += port(entry["containerPort"], f"{field}.containerPort")
    if entry.get("protocol") not in ("SCTP", "TCP", "UDP"):
        found.append(not_supported(f"{field}.protocol", entry.get("protocol"), ["SCTP", "TCP", "UDP"]))
    return found


def _mounts(mounts: list[Obj], field: str, volumes: set[str]) -> list[FieldError]:
    found: list[FieldError] = []
    paths: set[str] = set()
    for index, mount in enumerate(mounts):
        place = f"{field}.volumeMounts[{index}]"
        if not mount.get("name"):
            found.append(required(f"{place}.name"))
        elif mount["name"] not in volumes:
            found.append(FieldError("NotFound", f"{place}.name", mount["name"]))
        if not mount.get("mountPath"):
            found.append(required(f"{place}.mountPath"))
        elif mount["mountPath"] in paths:
            found.append(invalid_value(f"{place}.mountPath", mount["mountPath"], "must be unique"))
        paths.add(mount.get("mountPath", ""))
    return found


def _env(env: Obj, field: str) -> list[FieldError]:
    found: list[FieldError] = []
    name = env.get("name", "")
    if not name:
        found.append(required(f"{field}.name"))
    source = env.get("valueFrom")
    if source is not None:
        if env.get("value"):
            found.append(invalid_value(f"{field}.valueFrom", "", "may not be specified when `value` is not empty"))
        if not source:
            text = (
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
            )
            found.append(invalid_value(f"{field}.valueFrom", "", text))
    return found


def spec_errors(spec: Obj, field: str) -> list[FieldError]:
    """What is wrong with a pod spec that lies at ``field``."""
    found, volumes = _volumes(spec, field)
    seen: set[str] = set()
    if not spec.get("containers"):
        found.append(required(f"{field}.containers"))
    for key in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(key) or ()):
            found += _container(container, f"{field}.{key}[{index}]", volumes, seen)
    if spec.get("restartPolicy") not in _POLICIES:
        found.append(not_supported(f"{field}.restartPolicy", spec.get("restartPolicy"), _POLICIES))
    policies = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
    if spec.get("dnsPolicy") not in policies:
        found.append(not_supported(f"{field}.dnsPolicy", spec.get("dnsPolicy"), policies))
    found += non_negative(spec.get("terminationGracePeriodSeconds"), f"{field}.terminationGracePeriodSeconds")
    for index, toleration in enumerate(spec.get("tolerations") or ()):
        place = f"{field}.tolerations[{index}]"
        operator = toleration.get("operator", "Equal")
        if operator not in ("Equal", "Exists"):
            found.append(not_supported(f"{place}.operator", operator, ["Equal", "Exists"]))
        if operator == "Exists" and toleration.get("value"):
            found.append(
                invalid_value(f"{place}.operator", toleration, "value must be empty when `operator` is 'Exists'")
            )
    found += labels(spec.get("nodeSelector"), f"{field}.nodeSelector")
    return found


def pod(obj: Obj) -> list[FieldError]:
    return spec_errors(obj["spec"], "spec")


def pod_update(new: Obj, old: Obj) -> list[FieldError]:
    """Of a running pod little may change: images, deadlines, more tolerations, and the binding to a node."""
    munged = copy.deepcopy(new["spec"])
    before = old["spec"]
    for key in ("containers", "initContainers"):
        for container, was in zip(munged.get(key) or (), before.get(key) or (), strict=False):
            container["image"] = was.get("image")
    for key in ("activeDeadlineSeconds", "tolerations", "ephemeralContainers"):
        munged.pop(key, None)
        if key in before:
            munged[key] = before[key]
    if not before.get("nodeName") and munged.get("nodeName"):
        munged.pop("nodeName")
    found: list[FieldError] = []
    kept = [t for t in before.get("tolerations") or () if t not in (new["spec"].get("tolerations") or ())]
    if kept:
        text = "existing toleration can not be modified except its tolerationSeconds"
        found.append(forbidden_field("spec.tolerations", text))
    if munged != before:
        found.append(forbidden_field("spec", _UPDATE_TEXT))
    return found


def _template(spec: Obj, policies: tuple[str, ...]) -> list[FieldError]:
    template = spec.get("template") or {}
    found = spec_errors(template.get("spec") or {}, "spec.template.spec")
    policy = (template.get("spec") or {}).get("restartPolicy")
    if policy in _POLICIES and policy not in policies:
        found.append(not_supported("spec.template.spec.restartPolicy", policy, policies))
    return found


def workload(obj: Obj, noun: str = "deployment") -> list[FieldError]:
    """Deployments, ReplicaSets and, with other nouns, StatefulSets and DaemonSets."""
    spec = obj["spec"]
    found = non_negative(spec.get("replicas"), "spec.replicas")
    selector, template = spec.get("selector"), spec.get("template") or {}
    own = (template.get("metadata") or {}).get("labels")
    if selector is None and noun != "daemonset":
        found.append(required("spec.selector"))
    elif selector == {}:
        found.append(invalid_value("spec.selector", selector, f"empty selector is invalid for {noun}"))
    if selector is None or (selector and not from_label_selector(selector).matches(own)):
        text = "`selector` does not match template `labels`"
        found.append(invalid_value("spec.template.metadata.labels", own, text))
    found += _template(spec, ("Always",))
    found += _strategy(spec)
    return found + non_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")


def daemon_set(obj: Obj) -> list[FieldError]:
    return workload(obj, "daemonset") + _update_strategy(obj["spec"])


def stateful_set(obj: Obj) -> list[FieldError]:
    policy, policies = obj["spec"].get("podManagementPolicy"), ("OrderedReady", "Parallel")
    found = [] if policy in policies else [not_supported("spec.podManagementPolicy", policy, policies)]
    return found + _update_strategy(obj["spec"]) + workload(obj, "statefulset")


def _update_strategy(spec: Obj) -> list[FieldError]:
    strategy = spec.get("updateStrategy") or {}
    kinds, field = ("OnDelete", "RollingUpdate"), "spec.updateStrategy"
    if strategy.get("type") not in kinds:
        return [not_supported(f"{field}.type", strategy.get("type"), kinds)]
    rolling = strategy.get("rollingUpdate") or {}
    found = non_negative(rolling.get("partition"), f"{field}.rollingUpdate.partition")
    for key in ("maxUnavailable", "maxSurge"):
        found += int_or_percent(rolling.get(key, 0), f"{field}.rollingUpdate.{key}")
    return found


def _strategy(spec: Obj) -> list[FieldError]:
    strategy = spec.get("strategy")
    if strategy is None:
        return []
    if strategy.get("type") not in ("Recreate", "RollingUpdate"):
        return [not_supported("spec.strategy.type", strategy.get("type"), ["Recreate", "RollingUpdate"])]
    rolling = strategy.get("rollingUpdate")
    if strategy["type"] == "Recreate":
        why = "may not be specified when strategy `type` is 'Recreate'"
        return [forbidden_field("spec.strategy.rollingUpdate", why)] if rolling else []
    found: list[FieldError] = []
    for key in ("maxUnavailable", "maxSurge"):
        found += int_or_percent((rolling or {}).get(key, 0), f"spec.strategy.rollingUpdate.{key}")
    zero = [(rolling or {}).get(k) in (0, "0%") for k in ("maxUnavailable", "maxSurge")]
    if all(zero):
        value: Any = (rolling or {}).get("maxUnavailable")
        found.append(
            invalid_value("spec.strategy.rollingUpdate.maxUnavailable", value, "may not be 0 when `maxSurge` is 0")
        )
    return found


def workload_update(new: Obj, old: Obj) -> list[FieldError]:
    """The selector decides which pods belong to a workload, so it stays."""
    before, after = old["spec"].get("selector"), new["spec"].get("selector")
    return [] if before == after else [invalid_value("spec.selector", after, IMMUTABLE)]


_MUTABLE: Final = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def stateful_set_update(new: Obj, old: Obj) -> list[FieldError]:
    before, after = old["spec"], new["spec"]
    if all(before.get(k) == after.get(k) for k in before.keys() | after.keys() if k not in _MUTABLE):
        return []
    names = ", ".join(f"'{k}'" for k in _MUTABLE[:-1])
    why = f"updates to statefulset spec for fields other than {names} and '{_MUTABLE[-1]}' are forbidden"
    return [forbidden_field("spec", why)]


def job(obj: Obj) -> list[FieldError]:
    return _job_spec(obj["spec"], "spec")


def _job_spec(spec: Obj, field: str) -> list[FieldError]:
    counts = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
    found = [e for k in counts for e in non_negative(spec.get(k), f"{field}.{k}")]
    mode, modes = spec.get("completionMode"), ("Indexed", "NonIndexed")
    if mode is not None and mode not in modes:
        found.append(not_supported(f"{field}.completionMode", mode, modes))
    if mode == "Indexed" and spec.get("completions") is None:
        found.append(required(f"{field}.completions", "when completion mode is Indexed"))
    inner = (spec.get("template") or {}).get("spec") or {}
    found += spec_errors(inner, f"{field}.template.spec")
    if inner.get("restartPolicy") == "Always":
        found.append(required(f"{field}.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"'))
    return found


def job_update(new: Obj, old: Obj) -> list[FieldError]:
    """What a job counts and runs stays; a suspended one that never ran may still be scheduled differently."""
    before, after = old["spec"], new["spec"]
    fixed = ["selector", "template", "completionMode"]
    if before.get("completionMode") != "Indexed":
        fixed.insert(0, "completions")
    return [invalid_value(f"spec.{k}", after.get(k), IMMUTABLE) for k in fixed if after.get(k) != before.get(k)]


_CONCURRENCY: Final = ("Allow", "Forbid", "Replace")
_CRON_NAME_LENGTH: Final = 52  # eleven more are needed for the names of the jobs


def cron_job(obj: Obj) -> list[FieldError]:
    spec, name = obj["spec"], obj["metadata"].get("name", "")
    found: list[FieldError] = []
    schedule = spec.get("schedule", "")
    fields = schedule.split()
    if not schedule:
        found.append(required("spec.schedule"))
    elif schedule.startswith("TZ"):
        text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        found.append(invalid_value("spec.schedule", schedule, text))
    elif not schedule.startswith("@") and len(fields) != 5:
        text = f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]"
        found.append(invalid_value("spec.schedule", schedule, text))
    elif not schedule.startswith("@"):
        found += [
            invalid_value(
                "spec.schedule", schedule, f'failed to parse int from {f}: strconv.Atoi: parsing "{f}": invalid syntax'
            )
            for f in fields
            if not re.fullmatch(r"[\d*/,?A-Za-z-]+", f) or re.search(r"[A-Za-z]{4}", f)
        ]
    zone = spec.get("timeZone")
    if zone is not None and zone not in available_timezones():
        found.append(invalid_value("spec.timeZone", zone, f"unknown time zone {zone}"))
    if spec.get("concurrencyPolicy") not in _CONCURRENCY:
        found.append(not_supported("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), _CONCURRENCY))
    for key in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        found += non_negative(spec.get(key), f"spec.{key}")
    found += _job_spec(spec["jobTemplate"].get("spec") or {}, "spec.jobTemplate.spec")
    if len(name) > _CRON_NAME_LENGTH:
        text = f"must be no more than {_CRON_NAME_LENGTH} characters"
        found.append(invalid_value("metadata.name", name, text))
    return found
