"""There are no images on a laptop without a container engine: an image's repository name stands for a command.

The tag is ignored: the program of the running installation is the only version there is. An image that is not
mapped cannot be pulled, and the pod says so as it would on a cluster.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

BIN: Final = str(Path(sys.executable).parent)
"""Where the programs of this installation lie: mlserve-runtime, mlserve-operator, envoy."""

DEFAULT_IMAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "mlserve-runtime": ("mlserve-runtime",),
    "mlserve-operator": ("mlserve-operator",),
    "envoy": ("envoy",),
}


ADDRESS_BLIND: Final = frozenset({"envoy"})
"""Images whose program does not know MLSERVE_BIND_HOST: 127.0.0.1 in their configuration means the pod, and their
mounted ConfigMaps are rewritten as well; see paths.address_rewriter."""


class ImageNotFoundError(LookupError):
    """The image is not mapped to a command."""


def repository_name(image: str) -> str:
    """The last path segment without tag and digest.

    >>> repository_name("ghcr.io:443/mlserve/mlserve-runtime:0.1.0@sha256:aa")
    'mlserve-runtime'
    """
    return image.split("@", maxsplit=1)[0].rsplit("/", 1)[-1].split(":", maxsplit=1)[0]


def parse_mappings(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """`NAME=COMMAND` switches on top of the defaults; the command may be empty. Raises ValueError without a `=`."""
    images = dict(DEFAULT_IMAGES)
    for text in texts:
        name, separator, command = text.partition("=")
        if not separator or not name:
            raise ValueError(f"image mapping {text!r}: expected NAME=COMMAND, for example web='python -m http.server'")
        images[name] = tuple(shlex.split(command))
    return images


def command_line(
    images: Mapping[str, Sequence[str]], image: str, command: Sequence[str], args: Sequence[str]
) -> list[str]:
    """What to execute: the container's command replaces the image's entry point, its args follow.

    Raises ImageNotFoundError with the images there are.
    """
    name = repository_name(image)
    if name not in images:
        known = ", ".join(sorted(images))
        raise ImageNotFoundError(
            f'Failed to pull image "{image}": this node runs pods as local processes and maps images by repository '
            f"name; {name!r} is not one of: {known}"
        )
    return [*(command or images[name]), *args]


def executable(program: str, path: str) -> str | None:
    """The file that runs `program`, looked up in `path` if it has no slash."""
    return shutil.which(program, path=path)
