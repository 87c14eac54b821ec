"""Processes share one file system, so a mountPath cannot be mounted: what names it is rewritten instead.

Every mountPath in the environment, command and arguments of a container becomes the directory that holds the volume.
A program must therefore take each mounted path from there, which is good manners anyway.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final


def rewriter(mounts: Mapping[str, str]) -> Callable[[str], str]:
    """A function that replaces mount paths (keys) by real directories (values) in a text.

    The longest path wins, and only whole path segments count.

    >>> rewriter({"/data": "/pods/1/data", "/data/in": "/pods/1/in"})("--from=/data/in/x --to=/data --not=/database")
    '--from=/pods/1/in/x --to=/pods/1/data --not=/database'
    """
    places = {_normal(path): real for path, real in mounts.items() if _normal(path)}
    if not places:
        return lambda text: text
    alternatives = "|".join(re.escape(path) for path in sorted(places, key=len, reverse=True))
    # A path starts where no other path goes on, or after the scheme of a URL (file:///data); it ends at a segment.
    pattern = re.compile(rf"(?:(?<=://)|(?<![\w./-]))(?:{alternatives})(?![\w.-])")
    return lambda text: pattern.sub(lambda match: places[match.group()], text)


def _normal(path: str) -> str:
    return path.rstrip("/")


_WILDCARD_OR_LOOPBACK: Final = re.compile(r"(?<![\w.])(?:0\.0\.0\.0|127\.0\.0\.1)(?![\w.])")


def own_address(pod_ip: str) -> Callable[[str], str]:
    """A function that replaces 0.0.0.0 and 127.0.0.1 in a text by the pod's own address.

    In a pod of a cluster both mean the pod alone. Pods here share one network: what cannot read MLSERVE_BIND_HOST
    (Envoy) would take every address of the machine, and two of them would fight for a port.

    >>> own_address("127.64.0.3")("0.0.0.0:80 127.0.0.1:9901 10.0.0.0 127.0.0.11")
    '127.64.0.3:80 127.64.0.3:9901 10.0.0.0 127.0.0.11'
    """
    return lambda text: _WILDCARD_OR_LOOPBACK.sub(pod_ip, text)
