"""Projected volumes: what is in them, and that they change as one."""

from __future__ import annotations

import base64
import os
import threading

import pytest

from mlserve_local.node.environment import ConfigError
from mlserve_local.node.volumes import File, payload, plain_directory, references, write

POD = {"metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}
CONFIG = {"kind": "ConfigMap", "data": {"a": "1", "b": "2"}, "binaryData": {"c": base64.b64encode(b"\0").decode()}}
SECRET = {"kind": "Secret", "data": {"k": base64.b64encode(b"v").decode()}}


def lookup(kind, name):
    return {("ConfigMap", "config"): CONFIG, ("Secret", "secret"): SECRET}.get((kind, name))


def files(volume, token=None):
    found = payload({"name": "v", **volume}, POD, lookup, token, {"cpu": "4"})
    return {path: file.content for path, file in found.items()}


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        pytest.param({"configMap": {"name": "config"}}, {"a": b"1", "b": b"2", "c": b"\0"}, id="config map"),
        pytest.param(
            {"configMap": {"name": "config", "items": [{"key": "a", "path": "x/y"}]}}, {"x/y": b"1"}, id="items"
        ),
        pytest.param({"secret": {"secretName": "secret"}}, {"k": b"v"}, id="secret"),
        pytest.param({"configMap": {"name": "gone", "optional": True}}, {}, id="optional and missing"),
        pytest.param(
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"labels": b'a="b"'},
            id="downward",
        ),
        pytest.param(
            {
                "projected": {
                    "sources": [
                        {"serviceAccountToken": {"path": "token"}},
                        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                        {"secret": {"name": "secret"}},
                    ]
                }
            },
            {"token": b"jwt", "k": b"v"},
            id="projected; the root certificate may come later",
        ),
    ],
)
def test_payload(volume, expected):
    assert files(volume, token="jwt") == expected


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"secret": {"secretName": "gone"}}, 'secret "gone" not found'),
        ({"configMap": {"name": "config", "items": [{"key": "z", "path": "z"}]}}, "non-existent configmap key: z"),
    ],
)
def test_missing_sources_are_named(volume, message):
    with pytest.raises(ConfigError, match=message):
        files(volume)


def test_references_are_found_in_plain_and_projected_volumes():
    volumes = [
        {"name": "a", "configMap": {"name": "x"}},
        {"name": "b", "secret": {"secretName": "y"}},
        {"name": "c", "projected": {"sources": [{"configMap": {"name": "z"}}, {"secret": {"name": "w"}}]}},
        {"name": "d", "emptyDir": {}},
    ]
    found = references({"spec": {"volumes": volumes}})
    assert found == {("ConfigMap", "x"), ("Secret", "y"), ("ConfigMap", "z"), ("Secret", "w")}


def test_an_update_replaces_all_files_at_once(tmp_path):
    assert write(tmp_path, {"a": File(b"1"), "d/b": File(b"1", 0o600)})
    assert (tmp_path / "d/b").stat().st_mode & 0o777 == 0o600
    before = (tmp_path / "..data").readlink()
    assert not write(tmp_path, {"a": File(b"1"), "d/b": File(b"1", 0o600)})
    assert (tmp_path / "..data").readlink() == before
    assert write(tmp_path, {"a": File(b"2"), "c": File(b"2")})
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("..")) == ["a", "c"]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes() == b"2"
    assert len([p for p in tmp_path.iterdir() if p.name.startswith("..2")]) == 1


def test_a_reader_never_sees_half_an_update(tmp_path):
    write(tmp_path, {"a": File(b"0"), "b": File(b"0")})
    torn, reads, stop = [], [], threading.Event()

    def read():
        while not stop.is_set():
            # One look at `..data`, as a program does that opens the directory once.
            try:
                directory = os.open(tmp_path / "..data", os.O_RDONLY)
            except FileNotFoundError:
                continue  # followed the link just before the swap
            try:
                pair = _pair(directory)
            except FileNotFoundError:
                continue  # the old directory was removed after the swap
            finally:
                os.close(directory)
            reads.append(pair)
            if pair[0] != pair[1]:
                torn.append(pair)

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(1, 200):
        write(tmp_path, {"a": File(b"%d" % number), "b": File(b"%d" % number)})
    stop.set()
    thread.join()
    assert not torn
    assert reads


def _pair(directory):
    found = []
    for name in ("a", "b"):
        descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
        try:
            found.append(os.read(descriptor, 9))
        finally:
            os.close(descriptor)
    return tuple(found)


def test_an_unknown_kind_of_volume_says_which_there_are(tmp_path):
    with pytest.raises(ConfigError, match="no nfs volumes; it has emptyDir"):
        plain_directory({"name": "v", "nfs": {}}, "n", tmp_path, tmp_path)


def test_a_claim_is_the_same_directory_for_every_pod(tmp_path):
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}
    first = plain_directory(volume, "n", tmp_path / "p1", tmp_path / "claims")
    assert first == plain_directory(volume, "n", tmp_path / "p2", tmp_path / "claims")
    assert first.is_dir()
