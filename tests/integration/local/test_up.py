"""`up` and `down`: idempotent, restart what crashes, end exactly what they started, leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlserve_local.processes import marked, start_time
from mlserve_local.settings import ClusterSettings, ClusterState, PartState, operator_url
from mlserve_local.up import Cluster, ClusterError, UpOptions, down, status, up

OPTIONS = {"operator": False, "images": ("shell=/bin/sh",), "backoff_seconds": 0.2}
POD = """
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: shell, command: [sh, -c, "setsid sleep 876543 & sleep 876543"]}]
"""


@pytest.fixture
def data_dir(tmp_path):
    directory = tmp_path / "cluster"
    yield directory
    down(directory)


def kubectl(cluster, *arguments, stdin=None):
    result = subprocess.run(
        ["kubectl", "--kubeconfig", str(cluster.settings.kubeconfig), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    return result.stdout


def until(condition, what, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds:g} s"
        time.sleep(0.05)


def part(data_dir, name):
    state = status(data_dir).state
    return next(p for p in state.parts if p.name == name)


def restarts_of_pod(cluster):
    path = "jsonpath={.status.containerStatuses[0].restartCount},{.status.containerStatuses[0].ready}"
    return kubectl(cluster, "get", "pod", "p", "-o", path)


def alive(process):
    return start_time(process.pid) == process.started


def test_a_cluster_lives_through_crashes_and_ends_without_a_trace(data_dir):
    cluster = up(UpOptions(data_dir=data_dir, **OPTIONS))
    assert cluster.running
    said = []
    again = up(UpOptions(data_dir=data_dir, **OPTIONS), said.append)
    assert again.state.supervisor == cluster.state.supervisor
    assert "running already" in said[0]
    kubectl(cluster, "apply", "-f", "-", stdin=POD)
    until(lambda: restarts_of_pod(cluster) == "0,true", "the pod is ready")

    node = part(data_dir, "node")
    os.kill(node.pid, signal.SIGKILL)
    until(lambda: part(data_dir, "node").restarts == 1, "the node is started again")
    until(lambda: restarts_of_pod(cluster) == "1,true", "the pod is started again")
    os.kill(part(data_dir, "apiserver").pid, signal.SIGKILL)
    until(lambda: part(data_dir, "apiserver").restarts == 1, "the API server is started again")

    def answers():
        with contextlib.suppress(subprocess.CalledProcessError):
            return restarts_of_pod(cluster) == "1,true"
        return False

    until(answers, "the API server answers with what it knew")

    before = status(data_dir).state
    os.kill(before.supervisor.pid, signal.SIGKILL)
    until(lambda: not any(alive(p) for p in before.parts), "the parts end with their supervisor")
    assert not status(data_dir).running
    down(data_dir)
    assert list(marked(data_dir)) == []

    cluster = up(UpOptions(data_dir=data_dir, **OPTIONS))
    until(lambda: restarts_of_pod(cluster).endswith(",true"), "the pod runs again after a new start")
    assert down(data_dir) is True
    assert list(marked(data_dir)) == []
    assert down(data_dir) is False


def test_a_failed_start_says_why_and_leaves_nothing(data_dir, tmp_path):
    crds = tmp_path / "crds"
    crds.mkdir()
    (crds / "broken.yaml").write_text(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"
        "metadata: {name: x.example.org}\nspec: {}\n"
    )
    with pytest.raises(ClusterError, match=r"broken\.yaml was not accepted"):
        up(UpOptions(data_dir=data_dir, crds=crds, **OPTIONS))
    assert list(marked(data_dir)) == []
    with pytest.raises(ClusterError, match="no such kubeconfig"):
        up(UpOptions(data_dir=data_dir, kubeconfig=tmp_path / "missing", **OPTIONS))


def test_options_that_cannot_work_are_refused_before_anything_starts(data_dir, tmp_path):
    with pytest.raises(ClusterError, match="--crds names the directory"):
        up(UpOptions(data_dir=data_dir, crds=tmp_path))
    with pytest.raises(ClusterError, match="expected NAME=COMMAND"):
        up(UpOptions(data_dir=data_dir, operator=False, images=("shell",)))
    assert not data_dir.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("moment", ["started apiserver", "export KUBECONFIG"])
def test_a_cluster_in_the_foreground_ends_with_its_command(data_dir, moment, number):
    """Ctrl-C in a terminal, SIGTERM of a service manager: while it starts, or once it runs."""
    program = str(Path(sys.executable).parent / "mlserve")
    command = [program, "local", "up", "--no-operator", "--data-dir", str(data_dir)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with process:
        assert any(line.startswith(moment) for line in process.stdout)
        process.send_signal(number)
        process.wait(timeout=30)
    assert list(marked(data_dir)) == []
    assert not status(data_dir).running


def test_a_cluster_that_never_was_has_no_addresses(tmp_path):
    found = status(tmp_path / "nowhere").to_dict()
    assert (found["running"], found["apiServer"], found["operator"], found["dns"]) == (False, "", "", "")


def test_the_operator_is_that_of_the_chosen_api_server(tmp_path):
    """With two clusters in KUBECONFIG, the one kubectl talks to is asked, not the one whose file comes first."""
    clusters = [
        ClusterSettings(str(tmp_path / name), block=64, api_port=port, operator_port=port + 1)
        for name, port in (("first", 1), ("second", 3))
    ]
    for settings in clusters:
        settings.save()
        ClusterState(PartState("supervisor", os.getpid(), start_time(os.getpid()))).save(settings.directory)
    kubeconfigs = [settings.kubeconfig for settings in clusters]
    assert [operator_url(settings.api_url, kubeconfigs) for settings in clusters] == [
        settings.operator_url for settings in clusters
    ]
    assert operator_url("https://elsewhere.example.com", kubeconfigs) is None


def test_the_line_for_the_shell_survives_a_space(tmp_path):
    line = Cluster(ClusterSettings(str(tmp_path / "my cluster")), None).export_line
    said = subprocess.run(["sh", "-c", f"{line}; echo $KUBECONFIG"], capture_output=True, text=True, check=True).stdout
    assert said == f"{tmp_path}/my cluster/kubeconfig\n"


def test_node_and_network_join_a_cluster_that_is_given_by_a_kubeconfig(cluster, tmp_path):
    """As on a real cluster: its own API server, scheduler and controllers; only node and network are started here."""
    joined = tmp_path / "joined"
    options = OPTIONS
    try:
        second = up(UpOptions(data_dir=joined, kubeconfig=cluster.kubeconfig, **options))
        assert [p.name for p in second.state.parts] in (["node", "network"], ["network", "node"])
        name = second.settings.node_name
        nodes = {n["metadata"]["name"] for n in cluster.get("nodes")["items"]}
        assert {"local", name} <= nodes
        pod = POD.replace("spec:\n", f"spec:\n  nodeName: {name}\n")
        kubectl(second, "apply", "-f", "-", stdin=pod)
        until(lambda: restarts_of_pod(second) == "0,true", "the pod runs on the joined node")
        kubectl(second, "delete", "pod", "p")
    finally:
        down(joined)
        cluster.kubectl("delete", "node", "-l", f"kubernetes.io/hostname=mlserve-{os.uname().nodename.lower()}")


def test_the_operator_of_no_cluster_has_no_url(tmp_path):
    assert operator_url("http://127.0.0.1:6443", [tmp_path / "kubeconfig"]) is None
