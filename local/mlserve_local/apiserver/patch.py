"""JSON patch (RFC 6902) and JSON merge patch (RFC 7386) as the API server applies them.

Two habits differ from the letter of the RFCs and are kept: ``replace`` of a missing member adds it, and every failed
operation is answered with the same 422.
"""

from __future__ import annotations

import copy
from typing import Any

from mlserve_local.apiserver.errors import StatusError, bad_request

MAX_OPERATIONS = 10_000


def patch_rejected() -> StatusError:
    """422: one of the operations failed."""
    return StatusError(422, "Invalid", "the server rejected our request due to an error in our request", {})


def merge_patch(target: Any, patch: Any) -> Any:
    """A merged copy: members merge, null deletes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def json_patch(document: Any, operations: Any) -> Any:
    """A patched copy; 400 if the patch is not a list of operations, 422 if one of them fails."""
    if not isinstance(operations, list) or not all(isinstance(o, dict) for o in operations):
        got = "object" if isinstance(operations, dict) else "value"
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {got} into Go value of type []handlers.jsonPatchOp"
        )
    if len(operations) > MAX_OPERATIONS:
        message = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        raise StatusError(413, "RequestEntityTooLarge", message, {})
    holder = {"": copy.deepcopy(document)}
    for operation in operations:
        try:
            _apply(holder, operation)
        except (KeyError, IndexError, TypeError, ValueError):
            raise patch_rejected() from None
    return holder[""]


def _tokens(pointer: Any) -> list[str]:
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise ValueError(pointer)
    return [t.replace("~1", "/").replace("~0", "~") for t in pointer.split("/")]


def _parent(holder: Any, tokens: list[str]) -> tuple[Any, str]:
    """The container of the last token. The document itself is the member ``""`` of ``holder``."""
    node = holder
    for token in tokens[:-1]:
        node = node[_index(node, token)] if isinstance(node, list) else node[token]
    if not isinstance(node, dict | list):
        raise TypeError(tokens)
    return node, tokens[-1]


def _index(node: list[Any], token: str) -> int:
    index = int(token)
    if not -len(node) <= index < len(node):
        raise IndexError(token)
    return index


def _get(holder: Any, pointer: Any) -> Any:
    node, last = _parent(holder, _tokens(pointer))
    return node[_index(node, last)] if isinstance(node, list) else node[last]


def _add(holder: Any, pointer: Any, value: Any) -> None:
    node, last = _parent(holder, _tokens(pointer))
    if isinstance(node, dict):
        node[last] = value
        return
    index = len(node) if last == "-" else int(last)
    if not -len(node) <= index <= len(node):
        raise IndexError(last)
    node.insert(index if index >= 0 else len(node) + index + 1, value)


def _remove(holder: Any, pointer: Any) -> Any:
    node, last = _parent(holder, _tokens(pointer))
    return node.pop(_index(node, last)) if isinstance(node, list) else node.pop(last)


def _apply(holder: Any, operation: dict[str, Any]) -> None:
    path = operation["path"]
    match operation.get("op"):
        case "add":
            _add(holder, path, copy.deepcopy(operation["value"]))
        case "replace":
            node, last = _parent(holder, _tokens(path))
            if isinstance(node, list):
                node[_index(node, last)] = copy.deepcopy(operation["value"])
            else:
                node[last] = copy.deepcopy(operation["value"])
        case "remove":
            _remove(holder, path)
        case "move":
            _add(holder, path, _remove(holder, operation["from"]))
        case "copy":
            _add(holder, path, copy.deepcopy(_get(holder, operation["from"])))
        case "test":
            try:
                found = _get(holder, path)
            except KeyError:
                found = None
            if not _same(found, operation.get("value")):
                raise ValueError(path)
        case other:
            raise ValueError(other)


def _same(a: Any, b: Any) -> bool:
    """Equality of JSON, where ``true`` is not ``1``."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return isinstance(a, bool) is isinstance(b, bool) and bool(a == b)
