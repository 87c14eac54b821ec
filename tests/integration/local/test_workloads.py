"""Deployments, Services, Jobs and autoscalers on the local cluster, with a client that notices every failed request."""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from dnslib import DNSRecord

URL_ANNOTATION = "mlserve.io/local-url"


def web(name="web", replicas=2, version="1", **spec):
    ready = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    container = {
        "name": "web",
        "image": f"web:{version}",
        "args": ["8080", "--bind", "0.0.0.0"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": ready,
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
    }
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 4, "containers": [container]},
            },
            **spec,
        },
    }


def service(name="web", **spec):
    ports = [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "alt", "port": 8000, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": ports, **spec},
    }


def rolled_out(cluster, namespace, name="web"):
    cluster.kubectl("rollout", "status", f"deployment/{name}", "-n", namespace, "--timeout=40s")


def url_of(cluster, namespace, name="web"):
    def annotation():
        return cluster.get("service", name, "-n", namespace)["metadata"].get("annotations", {}).get(URL_ANNOTATION)

    return cluster.wait(annotation, what="the Service's URL")


def fetch(url):
    with urllib.request.urlopen(url, timeout=5) as response:
        return response.status


class Stream:
    """A steady client in the background; `failures` is what did not answer 200."""

    def __init__(self, url):
        self.url, self.failures, self.answers = url, [], 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._stop.wait(0.02):
            try:
                assert fetch(self.url) == 200
                self.answers += 1
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def test_a_rolling_update_loses_no_request_and_can_be_undone(cluster, namespace):
    cluster.apply(web(), service(), namespace=namespace)
    rolled_out(cluster, namespace)
    with Stream(url_of(cluster, namespace)) as stream:
        cluster.kubectl("set", "image", "deployment/web", "-n", namespace, "web=web:2")
        rolled_out(cluster, namespace)
        cluster.kubectl("rollout", "undo", "deployment/web", "-n", namespace)
        rolled_out(cluster, namespace)
    assert stream.failures == []
    assert stream.answers > 50
    history = cluster.kubectl("rollout", "history", "deployment/web", "-n", namespace)
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["2", "3"]
    found = cluster.get("deployment", "web", "-n", namespace)
    conditions = {c["type"]: c["reason"] for c in found["status"]["conditions"]}
    assert conditions == {"Available": "MinimumReplicasAvailable", "Progressing": "NewReplicaSetAvailable"}
    # The image was set twice: a rollout's own bookkeeping is no change of the spec.
    assert found["metadata"]["generation"] == 3


def test_a_rollout_that_stands_still_exceeds_its_deadline_and_leaves_the_old_pods(cluster, namespace):
    cluster.apply(web(replicas=1, progressDeadlineSeconds=2), namespace=namespace)
    rolled_out(cluster, namespace)
    cluster.kubectl("set", "image", "deployment/web", "-n", namespace, "web=nope:1")

    def reason():
        found = cluster.get("deployment", "web", "-n", namespace)["status"]["conditions"]
        return next(c["reason"] for c in found if c["type"] == "Progressing")

    cluster.wait(lambda: reason() == "ProgressDeadlineExceeded", what="the deadline")
    result = cluster.run("rollout", "status", "deployment/web", "-n", namespace, check=False)
    assert "exceeded its progress deadline" in result.stderr
    assert cluster.get("deployment", "web", "-n", namespace)["status"]["availableReplicas"] == 1


def test_recreate_never_runs_both_templates(cluster, namespace):
    cluster.apply(web(strategy={"type": "Recreate"}), namespace=namespace)
    rolled_out(cluster, namespace)
    cluster.kubectl("set", "image", "deployment/web", "-n", namespace, "web=web:2")
    images = set()

    def seen():
        pods = cluster.get("pods", "-n", namespace, "-l", "app=web")["items"]
        running = {p["spec"]["containers"][0]["image"] for p in pods if p["status"]["phase"] == "Running"}
        images.add(frozenset(running))
        done = cluster.get("deployment", "web", "-n", namespace)["status"]
        return done.get("updatedReplicas") == 2 and done.get("availableReplicas") == 2

    cluster.wait(seen, what="the second template")
    assert frozenset({"web:1", "web:2"}) not in images


def test_scaling_pausing_and_resuming(cluster, namespace):
    cluster.apply(web(replicas=1), namespace=namespace)
    rolled_out(cluster, namespace)
    cluster.kubectl("rollout", "pause", "deployment/web", "-n", namespace)
    cluster.kubectl("set", "image", "deployment/web", "-n", namespace, "web=web:2")
    cluster.kubectl("scale", "deployment/web", "-n", namespace, "--replicas=3")

    def pods():
        found = cluster.get("pods", "-n", namespace, "-l", "app=web")["items"]
        return sorted(p["spec"]["containers"][0]["image"] for p in found if "deletionTimestamp" not in p["metadata"])

    cluster.wait(lambda: pods() == ["web:1"] * 3, what="three pods of the old template")
    cluster.kubectl("rollout", "resume", "deployment/web", "-n", namespace)
    rolled_out(cluster, namespace)
    cluster.wait(lambda: pods() == ["web:2"] * 3, what="three pods of the new template")
    cluster.kubectl("scale", "deployment/web", "-n", namespace, "--replicas=0")
    cluster.wait(lambda: pods() == [], what="no pods")


def test_services_have_names_addresses_and_endpoints(cluster, namespace):
    cluster.apply(web(), service(), service("peers", clusterIP="None", selector={"app": "web"}), namespace=namespace)
    rolled_out(cluster, namespace)
    address = cluster.get("service", "web", "-n", namespace)["spec"]["clusterIP"]
    assert address.startswith(f"127.{cluster.cluster.settings.block}.")
    cluster.wait(lambda: fetch(f"http://{address}:8000/") == 200, what="the Service's own address")
    assert fetch(url_of(cluster, namespace)) == 200
    pods = {p["status"]["podIP"] for p in cluster.get("pods", "-n", namespace, "-l", "app=web")["items"]}

    def resolve(name):
        host, port = cluster.cluster.settings.dns.split(":")
        reply = DNSRecord.parse(DNSRecord.question(name).send(host, int(port), timeout=3))
        return {str(record.rdata) for record in reply.rr}

    assert resolve(f"web.{namespace}.svc.cluster.local") == {address}
    cluster.wait(lambda: resolve(f"peers.{namespace}.svc") == pods, what="the pods by name")
    found = cluster.get("endpoints", "web", "-n", namespace)["subsets"][0]
    assert {a["ip"] for a in found["addresses"]} == pods


def test_port_forward_carries_many_connections_and_tells_of_a_closed_port(cluster, namespace):
    cluster.apply(web(replicas=1), namespace=namespace)
    rolled_out(cluster, namespace)
    command = ["kubectl", "port-forward", "deployment/web", "-n", namespace, ":8080", ":9"]
    with subprocess.Popen(
        command, env=cluster.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            lines = [process.stdout.readline() for _ in range(4)]
            ports = {
                line.rsplit(" ", 1)[1].strip(): line.split(":")[1].split()[0] for line in lines if "127.0.0.1" in line
            }
            with ThreadPoolExecutor(8) as pool:
                assert list(pool.map(fetch, [f"http://127.0.0.1:{ports['8080']}/"] * 40)) == [200] * 40
            with pytest.raises((urllib.error.URLError, ConnectionError)):
                fetch(f"http://127.0.0.1:{ports['9']}/")
        finally:
            process.terminate()
        assert "failed to connect" in process.stderr.read()


def test_a_service_without_pods_refuses(cluster, namespace):
    cluster.apply(service("empty"), namespace=namespace)
    url = url_of(cluster, namespace, "empty")
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        fetch(url)


def test_a_job_completes_and_one_that_fails_gives_up(cluster, namespace):
    def job(name, script, **spec):
        container = {"name": "main", "image": "shell", "command": ["sh", "-c", script]}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        metadata = {"name": name}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template, **spec}}

    cluster.apply(
        job("good", "echo ok", completions=3, parallelism=2), job("bad", "exit 1", backoffLimit=0), namespace=namespace
    )
    cluster.kubectl("wait", "job/good", "-n", namespace, "--for=condition=Complete", "--timeout=30s")
    cluster.kubectl("wait", "job/bad", "-n", namespace, "--for=condition=Failed", "--timeout=30s")
    assert cluster.get("job", "good", "-n", namespace)["status"]["succeeded"] == 3
    bad = cluster.get("job", "bad", "-n", namespace)["status"]["conditions"]
    assert {c["reason"] for c in bad} == {"BackoffLimitExceeded"}


def test_the_autoscaler_follows_cpu_and_pod_metrics(cluster, namespace):
    burn = {
        "name": "burn",
        "image": "shell",
        "command": ["sh", "-c", "end=$(($(date +%s)+90)); while [ $(date +%s) -lt $end ]; do :; done"],
        "resources": {"requests": {"cpu": "50m"}},
    }
    busy = web("busy", replicas=1)
    busy["spec"]["template"]["spec"]["containers"] = [burn]
    gauge = (
        "import http.server, os\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers(); self.wfile.write(b'in_flight 6\\n')\n"
        "    def log_message(self, *_): pass\n"
        "http.server.HTTPServer((os.environ['MLSERVE_BIND_HOST'], 9090), H).serve_forever()"
    )
    told = web("told", replicas=1)
    told["spec"]["template"]["spec"]["containers"] = [
        {"name": "main", "image": "shell", "command": ["python3", "-c", gauge]}
    ]

    def autoscaler(name, metric):
        return {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name},
            "spec": {
                "minReplicas": 1,
                "maxReplicas": 2,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "metrics": [metric],
            },
        }

    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
    own = {
        "type": "Pods",
        "pods": {"metric": {"name": "in_flight"}, "target": {"type": "AverageValue", "averageValue": "2"}},
    }
    cluster.apply(busy, told, autoscaler("busy", cpu), autoscaler("told", own), namespace=namespace)

    def replicas(name):
        return cluster.get("deployment", name, "-n", namespace)["spec"]["replicas"]

    cluster.wait(lambda: replicas("told") == 2, seconds=40, what="scaled by the pods' own metric")
    cluster.wait(lambda: replicas("busy") == 2, seconds=60, what="scaled by CPU")
    status = cluster.get("hpa", "busy", "-n", namespace)["status"]
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    assert conditions["ScalingActive"] == "True"
    assert json.dumps(status["currentMetrics"])


def test_a_disruption_budget_counts_healthy_pods(cluster, namespace):
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    }
    cluster.apply(web(), budget, namespace=namespace)
    rolled_out(cluster, namespace)

    def allowed():
        return cluster.get("pdb", "web", "-n", namespace)["status"].get("disruptionsAllowed")

    cluster.wait(lambda: allowed() == 1, what="one disruption allowed")
