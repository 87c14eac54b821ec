"""YAML answers, for clients that ask for ``application/yaml``."""

from __future__ import annotations

from typing import Any

import yaml

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def yaml_bytes(value: Any) -> bytes:
    """A document as YAML."""
    return yaml.dump(value, Dumper=_Dumper, allow_unicode=True, sort_keys=True).encode()
