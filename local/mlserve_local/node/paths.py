"""Processes share one file system, so a mountPath cannot be mounted: what names it is rewritten instead.

Every mountPath in the environment, command and arguments of a container becomes the directory that holds the volume.
A program must therefore take each mounted path from there, which is good manners anyway.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping


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
