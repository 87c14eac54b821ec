"""A user's pod template laid over the generated one, as a strategic merge would do it.

Lists of named things (containers, volumes, env) are merged by their key, other lists are replaced; null removes. What
cannot be merged replaces what is there: the API server refuses it, and says better than we could what is wrong.
"""

from __future__ import annotations

from typing import Any, Final

Object = dict[str, Any]

MERGE_KEYS: Final = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}


def overlay(base: Object, patch: Object) -> Object:
    """`base` with `patch` laid over it; neither is changed.

    >>> overlay({"env": [{"name": "A", "value": "1"}], "x": 1}, {"env": [{"name": "A", "value": "2"}], "x": None})
    {'env': [{'name': 'A', 'value': '2'}]}
    """
    merged = dict(base)
    for field, value in patch.items():
        if value is None:
            merged.pop(field, None)
        elif isinstance(value, dict) and isinstance(merged.get(field), dict):
            merged[field] = overlay(merged[field], value)
        elif field in MERGE_KEYS and _is_named(merged.get(field)) and _is_named(value):
            merged[field] = _merge_list(merged[field], value, MERGE_KEYS[field])
        else:
            merged[field] = value
    return merged


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _merge_list(base: list[Any], patch: list[Any], key: str) -> list[Any]:
    merged = {item.get(key): item for item in base}
    for item in patch:
        if item.get("$patch") == "delete":
            merged.pop(item.get(key), None)
        else:
            merged[item.get(key)] = overlay(merged.get(item.get(key), {}), item)
    return list(merged.values())
