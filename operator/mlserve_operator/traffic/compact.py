"""Configuration that says what all models have in common only once, so that a hundred of them fit into one ConfigMap.

An object of Kubernetes may hold 1 MiB, and two thirds of what Envoy has to be told about a model are the same for every
other. YAML can say "the same again": an anchor where something is written first, an alias wherever it follows. Envoy
reads YAML, and the rest of the text is JSON, which YAML contains.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def dump(value: Any, common: Mapping[str, Any]) -> str:
    """JSON data as YAML; a string `*name` in it stands for `common[name]`.

    >>> print(dump({"a": "*limits", "b": ["*limits"], "c": "*"}, {"limits": {"requests": 5}}))
    {"a": &limits {"requests":5},"b":[ *limits],"c":"*"}
    """
    text = _json(value)
    for name, content in common.items():
        mark = _json(f"*{name}")
        text = text.replace(mark, f" &{name} {_json(content)}", 1).replace(mark, f" *{name}")
    return text


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
