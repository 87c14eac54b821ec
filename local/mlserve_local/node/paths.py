"""Processes share one file system and one network: what names a pod's own part of them is rewritten instead.

Every mountPath in the environment, command and arguments of a container becomes the directory that holds the volume.
A program must therefore take each mounted path from there, which is good manners anyway. Likewise `0.0.0.0` becomes
the pod's address: without a network of its own, a pod that listens everywhere would keep all others from listening.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

SHARED: Final = frozenset({"/tmp", "/var/tmp"})  # noqa: S108 - these are names, nothing is written there
"""Mounted so that a read-only container can write there. They exist here as well, and a model may lie in them: only
the bare path is rewritten, as in TMPDIR, and nothing below it."""


def rewriter(mounts: Mapping[str, str]) -> Callable[[str], str]:
    """A function that replaces mount paths (keys) by real directories (values) in a text.

    The longest path wins, and only whole path segments count.

    >>> rewriter({"/data": "/pods/1/data", "/data/in": "/pods/1/in"})("--from=/data/in/x --to=/data --not=/database")
    '--from=/pods/1/in/x --to=/pods/1/data --not=/database'
    """
    places = {_normal(path): real for path, real in mounts.items() if _normal(path)}
    shared = {path: places.pop(path) for path in SHARED & set(places)}
    if not places:
        return lambda text: shared.get(text, text)
    alternatives = "|".join(re.escape(path) for path in sorted(places, key=len, reverse=True))
    # A path starts where no other path goes on, or after the scheme of a URL (file:///data); it ends at a segment.
    pattern = re.compile(rf"(?:(?<=://)|(?<![\w./-]))(?:{alternatives})(?![\w.-])")
    return lambda text: shared.get(text) or pattern.sub(lambda match: places[match.group()], text)


def address_rewriter(pod_ip: str, *, loopback: bool) -> Callable[[str], str]:
    """A function that puts the pod's address for `0.0.0.0`; with `loopback` also for 127.0.0.1. CIDRs stay.

    >>> address_rewriter("127.97.0.2", loopback=True)("0.0.0.0:80 127.0.0.1/x 0.0.0.0/0 10.0.0.0")
    '127.97.0.2:80 127.97.0.2/x 0.0.0.0/0 10.0.0.0'
    """
    addresses = r"0\.0\.0\.0|127\.0\.0\.1" if loopback else r"0\.0\.0\.0"
    pattern = re.compile(rf"(?<![\d.])(?:{addresses})(?![\d.]|/\d{{1,2}}(?!\d))")
    return lambda text: pattern.sub(pod_ip, text)


def _normal(path: str) -> str:
    return path.rstrip("/")
