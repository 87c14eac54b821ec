"""Pods on the local node behave as on a cluster, seen through the real kubectl."""

from __future__ import annotations

import subprocess
from pathlib import Path


def pod(name, *containers, **spec):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": list(containers), **spec},
    }


def shell(script, name="main", **more):
    return {"name": name, "image": "shell", "command": ["sh", "-c", script], **more}


def status(cluster, namespace, name):
    return cluster.get("pod", name, "-n", namespace)["status"]


def container_state(cluster, namespace, name):
    return (status(cluster, namespace, name).get("containerStatuses") or [{}])[0]


def logs(cluster, namespace, name, *arguments):
    return cluster.kubectl("logs", name, "-n", namespace, *arguments)


def events(cluster, namespace, name):
    found = cluster.get("events", "-n", namespace, "--field-selector", f"involvedObject.name={name}")
    return {event["reason"]: event["message"] for event in found["items"]}


def test_environment_volumes_and_init_containers(cluster, namespace):
    cluster.kubectl("create", "configmap", "settings", "-n", namespace, "--from-literal=color=red")
    cluster.kubectl("create", "secret", "generic", "keys", "-n", namespace, "--from-literal=token=s3cret")
    mounts = [
        {"name": "data", "mountPath": "/data"},
        {"name": "settings", "mountPath": "/etc/settings"},
        {"name": "about", "mountPath": "/etc/about"},
    ]
    env = [
        {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "URL", "value": "http://$(IP):80/$(COLOR)"},
    ]
    script = "cat /data/first /data/second /etc/settings/color /etc/about/labels; echo; echo $URL $TOKEN $0"
    container = shell(script, env=env, volumeMounts=mounts, args=["$(COLOR)"])
    made = pod(
        "p",
        container,
        restartPolicy="Never",
        initContainers=[
            shell("echo 1 > /data/first", "one", volumeMounts=mounts[:1]),
            shell("test -e /data/first && echo 2 > /data/second", "two", volumeMounts=mounts[:1]),
        ],
        volumes=[
            {"name": "data", "emptyDir": {}},
            {"name": "settings", "configMap": {"name": "settings"}},
            {
                "name": "about",
                "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]},
            },
        ],
    )
    cluster.apply(made, namespace=namespace)
    cluster.wait(lambda: status(cluster, namespace, "p")["phase"] == "Succeeded", what="pod p succeeds")
    ip = status(cluster, namespace, "p")["podIP"]
    assert logs(cluster, namespace, "p").splitlines() == ["1", "2", 'redapp="p"', f"http://{ip}:80/red s3cret red"]
    assert {"Scheduled", "Pulled", "Created", "Started"} <= set(events(cluster, namespace, "p"))


def test_a_changed_config_map_reaches_a_running_pod(cluster, namespace):
    cluster.kubectl("create", "configmap", "live", "-n", namespace, "--from-literal=v=one")
    mount = {"name": "live", "mountPath": "/etc/live"}
    script = "while :; do cat /etc/live/v; echo; sleep 0.1; done"
    made = pod("p", shell(script, volumeMounts=[mount]), volumes=[{"name": "live", "configMap": {"name": "live"}}])
    cluster.apply(made, namespace=namespace)
    cluster.wait(lambda: "one" in logs(cluster, namespace, "p"), what="the first value")
    cluster.kubectl("patch", "configmap", "live", "-n", namespace, "-p", '{"data":{"v":"two"}}')
    cluster.wait(lambda: logs(cluster, namespace, "p").splitlines()[-1] == "two", seconds=5, what="the new value")


def test_a_crash_shows_its_message_and_backs_off(cluster, namespace):
    script = "echo said; echo 'ModelLoadFailed: no weights' > /dev/termination-log; exit 3"
    cluster.apply(pod("p", shell(script)), namespace=namespace)

    def waiting():
        state = container_state(cluster, namespace, "p")
        return state if state.get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff" else None

    state = cluster.wait(waiting, what="CrashLoopBackOff")
    ended = state["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (3, "Error")
    assert ended["message"].strip() == "ModelLoadFailed: no weights"
    assert "back-off" in state["state"]["waiting"]["message"]
    cluster.wait(lambda: container_state(cluster, namespace, "p")["restartCount"] >= 2, what="two restarts")
    assert logs(cluster, namespace, "p", "--previous").strip() == "said"
    assert "BackOff" in events(cluster, namespace, "p")


def test_an_unknown_image_cannot_be_pulled_until_it_is_corrected(cluster, namespace):
    cluster.apply(pod("p", {"name": "main", "image": "example.dev/nope:1"}), namespace=namespace)
    reasons = ("ErrImagePull", "ImagePullBackOff")

    def waiting():
        found = container_state(cluster, namespace, "p").get("state", {}).get("waiting", {})
        return found if found.get("reason") in reasons else None

    assert "example.dev/nope:1" in cluster.wait(waiting, what="ErrImagePull")["message"]
    cluster.kubectl("set", "image", "pod/p", "-n", namespace, "main=web:1")
    cluster.wait(lambda: "running" in container_state(cluster, namespace, "p")["state"], what="the corrected image")


def test_missing_configuration_waits_for_it(cluster, namespace):
    env = [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "later", "key": "x"}}}]
    cluster.apply(pod("p", shell("echo $X; sleep 100", env=env)), namespace=namespace)

    def reason():
        return container_state(cluster, namespace, "p").get("state", {}).get("waiting", {}).get("reason")

    cluster.wait(lambda: reason() == "CreateContainerConfigError", what="CreateContainerConfigError")
    cluster.kubectl("create", "configmap", "later", "-n", namespace, "--from-literal=x=now")
    cluster.wait(lambda: logs(cluster, namespace, "p").strip() == "now", seconds=5, what="the configured container")


def test_probes_decide_on_readiness_and_restarts(cluster, namespace):
    script = "rm -f /data/dead; touch /data/ready; while :; do sleep 0.1; done"
    probe = {"periodSeconds": 1, "failureThreshold": 1}
    container = shell(
        script,
        volumeMounts=[{"name": "data", "mountPath": "/data"}],
        readinessProbe={"exec": {"command": ["test", "-e", "/data/ready"]}, **probe},
        livenessProbe={"exec": {"command": ["sh", "-c", "test ! -e /data/dead"]}, **probe},
    )
    cluster.apply(pod("p", container, volumes=[{"name": "data", "emptyDir": {}}]), namespace=namespace)

    def ready():
        return container_state(cluster, namespace, "p").get("ready")

    cluster.wait(ready, what="ready")
    cluster.kubectl("exec", "p", "-n", namespace, "--", "rm", "/data/ready")
    cluster.wait(lambda: ready() is False, what="unready")
    assert container_state(cluster, namespace, "p")["restartCount"] == 0
    cluster.kubectl("exec", "p", "-n", namespace, "--", "touch", "/data/dead")
    cluster.wait(lambda: container_state(cluster, namespace, "p")["restartCount"] == 1, what="restarted")
    cluster.wait(ready, what="ready again")
    found = events(cluster, namespace, "p")
    assert "failed liveness probe, will be restarted" in found["Killing"]


def test_exec_has_streams_exit_codes_and_a_terminal(cluster, namespace):
    cluster.apply(pod("p", shell("sleep 1000")), namespace=namespace)
    cluster.wait(lambda: "running" in container_state(cluster, namespace, "p").get("state", {}), what="running")
    result = cluster.run("exec", "p", "-n", namespace, "--", "sh", "-c", "echo o; echo e >&2; exit 5", check=False)
    assert (result.returncode, result.stdout) == (5, "o\n")
    assert result.stderr.startswith("e\n")
    big = "x" * 300_000
    echoed = cluster.run("exec", "-i", "p", "-n", namespace, "--", "cat", stdin=big)
    assert echoed.stdout == big
    command = f"kubectl exec -it p -n {namespace} -- sh -c 'test -t 0 && stty size'"
    terminal = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        capture_output=True,
        text=True,
        env=cluster.environment(),
        timeout=30,
        check=False,
    )
    assert terminal.returncode == 0, terminal.stdout
    missing = cluster.run("exec", "p", "-n", namespace, "--", "no-such-program", check=False)
    assert missing.returncode != 0
    assert "executable file not found" in missing.stderr


def test_logs_follow_until_the_container_ends(cluster, namespace):
    made = pod("p", shell("for i in 1 2 3; do echo line $i; sleep 0.3; done"), restartPolicy="Never")
    cluster.apply(made, namespace=namespace)
    cluster.wait(lambda: "line 1" in logs(cluster, namespace, "p"), what="the first line")
    assert logs(cluster, namespace, "p", "--follow").splitlines() == ["line 1", "line 2", "line 3"]
    assert logs(cluster, namespace, "p", "--tail=1") == "line 3\n"
    stamped = logs(cluster, namespace, "p", "--timestamps", "--tail=1")
    assert stamped.endswith("Z line 3\n")


def test_termination_runs_pre_stop_then_sigterm_within_the_grace_period(cluster, namespace, tmp_path):
    record = tmp_path / "record"
    script = f"trap 'echo term >> {record}; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", f"echo prestop >> {record}"]}}}
    cluster.apply(pod("p", shell(script, lifecycle=hook), terminationGracePeriodSeconds=20), namespace=namespace)
    cluster.wait(lambda: "up" in logs(cluster, namespace, "p"), what="running")
    cluster.kubectl("delete", "pod", "p", "-n", namespace, timeout=15)
    assert record.read_text().split() == ["prestop", "term"]


def test_a_process_that_ignores_sigterm_is_killed_with_its_children(cluster, namespace):
    script = "trap '' TERM; sleep 987654 & echo child $!; while :; do sleep 0.1; done"
    cluster.apply(pod("p", shell(script)), namespace=namespace)
    line = cluster.wait(lambda: logs(cluster, namespace, "p").strip(), what="the child's pid")
    cluster.kubectl("delete", "pod", "p", "-n", namespace, timeout=15)
    command_line = Path(f"/proc/{line.split()[1]}/cmdline")
    assert not command_line.exists() or b"987654" not in command_line.read_bytes()


def test_too_much_memory_is_oom_killed(cluster, namespace):
    script = "import time; hog = bytearray(200 << 20); print('full', flush=True); time.sleep(600)"
    container = {
        "name": "main",
        "image": "shell",
        "command": ["python3", "-c", script],
        "resources": {"limits": {"memory": "64Mi"}},
    }
    cluster.apply(pod("p", container, restartPolicy="Never"), namespace=namespace)
    cluster.wait(lambda: status(cluster, namespace, "p")["phase"] == "Failed", seconds=40, what="OOMKilled")
    ended = container_state(cluster, namespace, "p")["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_what_does_not_fit_says_so_and_is_scheduled_when_it_does(cluster, namespace):
    def gpu(name, number):
        limits = {"limits": {"nvidia.com/gpu": str(number)}}
        return pod(name, shell("sleep 1000", resources=limits))

    cluster.apply(gpu("first", 2), gpu("second", 1), namespace=namespace)
    cluster.wait(lambda: status(cluster, namespace, "first")["phase"] == "Running", what="first runs")

    def refusal():
        found = status(cluster, namespace, "second").get("conditions") or []
        return next((c["message"] for c in found if c.get("reason") == "Unschedulable"), None)

    message = cluster.wait(refusal, what="Unschedulable")
    assert message.startswith("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    cluster.kubectl("delete", "pod", "first", "-n", namespace)
    cluster.wait(lambda: status(cluster, namespace, "second")["phase"] == "Running", what="second runs")


def test_a_sidecar_runs_beside_and_ends_after_the_others(cluster, namespace):
    made = pod(
        "p",
        shell("sleep 0.3; echo done"),
        restartPolicy="Never",
        initContainers=[shell("echo beside; sleep 1000", "side", restartPolicy="Always")],
    )
    cluster.apply(made, namespace=namespace)
    cluster.wait(lambda: status(cluster, namespace, "p")["phase"] == "Succeeded", what="succeeded")
    assert logs(cluster, namespace, "p", "-c", "side").strip() == "beside"


def test_the_node_reports_itself_and_its_usage(cluster, namespace):
    (node,) = cluster.get("nodes")["items"]
    conditions = {c["type"]: c["status"] for c in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert not node["spec"].get("taints")
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "2"
    lease = cluster.get("lease", node["metadata"]["name"], "-n", "kube-node-lease")
    assert lease["spec"]["holderIdentity"] == node["metadata"]["name"]
    cluster.apply(pod("p", shell("sleep 1000")), namespace=namespace)
    top = ["top", "pod", "p", "-n", namespace, "--no-headers"]

    def measured():
        return cluster.run(*top, check=False).stdout.split()

    line = cluster.wait(measured, what="kubectl top of the pod")
    assert line[0] == "p"
    assert line[2].endswith("Mi")
    assert cluster.kubectl("top", "nodes", "--no-headers").split()[0] == node["metadata"]["name"]
