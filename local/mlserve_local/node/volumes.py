"""Volumes are directories below the pod's own; ConfigMaps and Secrets in them change atomically.

As a kubelet does it: the files lie in a directory with a time in its name, `..data` points to it, and each visible
file is a link through `..data`. Swapping that one link changes all files at once, so a reader never sees a mixture.
The payloads (path -> content and mode) are computed by pure functions.
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlserve_local.node.environment import ConfigError, Lookup, field_value, resource_value
from mlserve_local.objects import Obj

DATA: Final = "..data"


@dataclass(frozen=True, slots=True)
class File:
    """Content and permission bits of a projected file."""

    content: bytes
    mode: int = 0o644


Payload = dict[str, File]


def projected_kinds(volume: Obj) -> bool:
    """Is this a volume whose files are written by the node?"""
    return any(kind in volume for kind in ("configMap", "secret", "projected", "downwardAPI"))


def references(pod: Obj) -> set[tuple[str, str]]:
    """(kind, name) of each ConfigMap and Secret that a volume of the pod shows."""
    found: set[tuple[str, str]] = set()
    for volume in pod["spec"].get("volumes") or ():
        for source in [volume, *((volume.get("projected") or {}).get("sources") or ())]:
            if "configMap" in source:
                found.add(("ConfigMap", source["configMap"]["name"]))
            if "secret" in source:
                found.add(("Secret", source["secret"].get("secretName") or source["secret"].get("name")))
    return found


def payload(volume: Obj, pod: Obj, lookup: Lookup, token: str | None, allocatable: Obj) -> Payload:
    """The files of a projected volume. Raises ConfigError for a missing source that is not optional."""
    if "projected" in volume:
        projected = volume["projected"]
        mode = projected.get("defaultMode", 0o644)
        files: Payload = {}
        for source in projected.get("sources") or ():
            files |= _source(source, pod, lookup, token, allocatable, mode)
        return files
    kind = next(k for k in ("configMap", "secret", "downwardAPI") if k in volume)
    return _source(volume, pod, lookup, token, allocatable, volume[kind].get("defaultMode", 0o644))


def _source(source: Obj, pod: Obj, lookup: Lookup, token: str | None, allocatable: Obj, mode: int) -> Payload:
    if "configMap" in source:
        return _from_object("ConfigMap", source["configMap"]["name"], source["configMap"], lookup, mode)
    if "secret" in source:
        name = source["secret"].get("secretName") or source["secret"].get("name")
        return _from_object("Secret", name, source["secret"], lookup, mode)
    if "downwardAPI" in source:
        return {
            item["path"]: File(_downward(item, pod, allocatable).encode(), item.get("mode", mode))
            for item in source["downwardAPI"].get("items") or ()
        }
    if "serviceAccountToken" in source:
        return {source["serviceAccountToken"]["path"]: File((token or "").encode(), 0o600)}
    raise ConfigError(f"unsupported source of a projected volume: {', '.join(source)}")


def _downward(item: Obj, pod: Obj, allocatable: Obj) -> str:
    if "fieldRef" in item:
        return field_value(pod, item["fieldRef"]["fieldPath"])
    return resource_value(pod["spec"]["containers"][0], pod, item["resourceFieldRef"], allocatable)


def _from_object(kind: str, name: str, source: Obj, lookup: Lookup, mode: int) -> Payload:
    found = lookup(kind, name)
    # Its controller writes this one shortly after the namespace; a cluster without TLS may never do so.
    optional = bool(source.get("optional")) or name == "kube-root-ca.crt"
    if found is None:
        if optional:
            return {}
        raise ConfigError(f'{kind.lower()} "{name}" not found')
    data = contents(found)
    items = source.get("items")
    if items is None:
        return {key: File(value, mode) for key, value in data.items()}
    missing = [item["key"] for item in items if item["key"] not in data]
    if missing and not optional:
        raise ConfigError(f"references non-existent {kind.lower()} key: {missing[0]}")
    return {item["path"]: File(data[item["key"]], item.get("mode", mode)) for item in items if item["key"] in data}


def contents(obj: Obj) -> dict[str, bytes]:
    """Bytes of each key of a ConfigMap or Secret."""
    if obj.get("kind") == "Secret":
        return {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
    binary = {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}
    return {key: value.encode() for key, value in (obj.get("data") or {}).items()} | binary


def write(directory: Path, files: Mapping[str, File]) -> bool:
    """Make `directory` show exactly `files`; True if anything changed. The change is one rename."""
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / DATA
    old = directory / link.readlink() if link.is_symlink() else None
    if old is not None and _same(old, files):
        return False
    new = directory / f"..{time.strftime('%Y_%m_%d_%H_%M_%S', time.gmtime())}.{time.time_ns() % 10**10}"
    for path, file in files.items():
        target = new / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(file.mode)
    new.mkdir(exist_ok=True)
    temporary = directory / "..data_tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(new.name)
    temporary.replace(link)
    _show(directory, {path.split("/")[0] for path in files})
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _same(directory: Path, files: Mapping[str, File]) -> bool:
    present = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    return present == set(files) and all((directory / path).read_bytes() == f.content for path, f in files.items())


def _show(directory: Path, names: Iterable[str]) -> None:
    wanted = set(names)
    for entry in directory.iterdir():
        if not entry.name.startswith("..") and entry.name not in wanted:
            entry.unlink()
    for name in wanted:
        with contextlib.suppress(FileExistsError):
            (directory / name).symlink_to(Path(DATA) / name)


def plain_directory(volume: Obj, namespace: str, pod_dir: Path, claims_dir: Path) -> Path:
    """The directory of a volume that is not projected, made if need be. Raises ConfigError for an unknown kind."""
    if "hostPath" in volume:
        path = Path(str(volume["hostPath"]["path"]))
        kind = volume["hostPath"].get("type") or ""
        if kind == "DirectoryOrCreate":
            path.mkdir(parents=True, exist_ok=True)
        if kind in ("Directory", "File") and not path.exists():
            raise ConfigError(f"hostPath type check failed: {path} is not a {kind.lower()}")
        return path
    if "persistentVolumeClaim" in volume:
        directory = claims_dir / namespace / str(volume["persistentVolumeClaim"]["claimName"])
    elif "emptyDir" in volume or set(volume) == {"name"}:
        directory = pod_dir / "volumes" / str(volume["name"])
    else:
        kind = next(key for key in volume if key != "name")
        raise ConfigError(
            f"volume {volume['name']}: this node has no {kind} volumes; it has emptyDir, configMap, secret, projected, "
            "downwardAPI, hostPath and persistentVolumeClaim (a directory)"
        )
    directory.mkdir(parents=True, exist_ok=True)
    return directory
