"""`make demo`: the whole story on this machine, with real traffic and real faults.

Serve a model, ask it in every API style, scale it, roll out a better version, let four faulty versions be stopped,
break things on the way, delete everything, and prove that nothing is left. Ends with 0 only if every promise held.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from answers import ask_in_every_style
from rich.console import Console
from rich.table import Table
from shell import BIN, ROOT, DemoError, Shell, say, wait_until
from stream import Stream, Tally

NAME = "digits"
MANIFEST = ROOT / "models/digits/modeldeployment.yaml"
FAULTS = {
    "v3": ("its preprocessing forgets the normalisation", ("PredictionDrift", "DriftRollback", "AnalysisFailed")),
    "v4": ("it throws on some inputs", ("AnalysisFailed",)),
    "v5": ("it is slow", ("AnalysisFailed",)),
    "v6": ("it answers NaN", ("AnalysisFailed",)),
}
ROLLOUT = {
    "steps": [{"weight": 5, "holdSeconds": 4}, {"weight": 25, "holdSeconds": 4}, {"weight": 50, "holdSeconds": 4}],
    "analysis": {"intervalSeconds": 2, "minRequests": 100},
    "bakeSeconds": 3,
    "progressDeadlineSeconds": 60,
}


class Demo:
    """The story, one method a chapter."""

    def __init__(self, shell: Shell, data: Path, rate: float) -> None:
        self.shell = shell
        self.data = data
        self.rate = rate
        self.stream: Stream | None = None
        self.versions: dict[str, str] = {}
        self.outcomes: list[tuple[str, str, str, int, int]] = []

    # --- what the cluster says ----------------------------------------------------------------------------------

    def resource(self) -> dict[str, Any]:
        found: dict[str, Any] = self.shell.json(f"kubectl get mdep {NAME} -o json")
        return found

    def status(self, *path: str) -> Any:
        value: Any = self.resource().get("status", {})
        for part in path:
            value = (value or {}).get(part)
        return value

    def explain(self) -> str:
        conditions = [
            f"{c['type']}={c['status']} {c['reason']}: {c['message']}" for c in self.status("conditions") or []
        ]
        return f"Last status: phase {self.status('phase')}; " + "; ".join(conditions)

    def ready(self) -> bool:
        found = self.resource()
        status = found.get("status", {})
        return status.get("observedGeneration") == found["metadata"]["generation"] and any(
            c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", [])
        )

    def url(self) -> str:
        service = self.shell.json(f"kubectl get service {NAME} -o json")
        return str(service["metadata"]["annotations"]["mlserve.io/local-url"])

    # --- chapters -------------------------------------------------------------------------------------------------

    def manifest(self, version: str) -> str:
        """The example's YAML of a version with holds short enough to watch."""
        path = MANIFEST if version == "v1" else MANIFEST.with_stem(f"{MANIFEST.stem}-{version}")
        document = yaml.safe_load(path.read_text())
        document["spec"]["replicas"] = 2
        document["spec"].setdefault("rollout", {}).update(ROLLOUT)
        return yaml.safe_dump(document)

    def apply(self, version: str) -> None:
        self.shell.run("kubectl apply -f -", stdin=self.manifest(version))

    def serve(self) -> None:
        say("A model is applied")
        self.shell.run(f"kubectl apply -f {MANIFEST.relative_to(ROOT)}")
        took = wait_until("Ready=True", self.ready, 90, self.explain)
        say(f"Ready {took:.1f} s after kubectl apply")
        wait_until("an address for the laptop", lambda: bool(self.url()), 10)
        ask_in_every_style(self.shell, self.url())

    def look(self) -> None:
        self.shell.run("kubectl get mdep,deploy,hpa,svc,pods")

    def scale(self) -> None:
        say("It is scaled to two replicas")
        self.shell.run(f"kubectl scale mdep {NAME} --replicas 2")
        wait_until("two ready replicas", lambda: self.status("stable", "readyReplicas") == 2, 60, self.explain)
        self.apply("v1")
        wait_until("Ready=True", self.ready, 60, self.explain)
        self.versions["v1"] = self.status("stable", "revision")

    def start_stream(self) -> None:
        say(f"A steady stream of {self.rate:.0f} digit images a second begins")
        self.stream = Stream(self.url(), self.rate)
        self.stream.start()
        wait_until("the first answers", lambda: self.tally("v1").requests > 20, 20)

    def tally(self, version: str) -> Tally:
        if self.stream is None:
            return Tally()
        return self.stream.tallies().get(self.versions.get(version, "?"), Tally())

    def better(self) -> None:
        say("v2 is better: it climbs 5 -> 25 -> 50 -> 100 while parts are killed under it")
        self.apply("v2")
        seen: list[int] = []
        disturbances = [
            ("the operator is killed", self.kill_operator),
            ("a router pod is deleted", lambda: self.delete_pod("router")),
            ("a runtime pod of v1 is deleted", lambda: self.delete_pod("runtime")),
        ]

        def promoted() -> bool:
            canary, stable = self.status("canary") or {}, self.status("stable") or {}
            if canary.get("revision"):
                self.versions["v2"] = canary["revision"]
            weight = canary.get("weight", 0)
            if weight and (not seen or seen[-1] != weight):
                seen.append(weight)
                say(f"weight of v2: {weight} %")
                if disturbances:
                    text, act = disturbances.pop(0)
                    say(f"meanwhile {text}")
                    act()
            return stable.get("version") == "2"

        wait_until("promotion of v2", promoted, 180, self.explain)
        say("v2 is promoted")
        if seen[:3] != [5, 25, 50]:
            raise DemoError(f"expected v2 at weights 5, 25, 50 and then all; saw {seen}")
        self.outcomes.append(("v2", "promoted", "", self.tally("v2").requests, self.tally("v2").failed))
        wait_until("end of the bake", self.ready, 60, self.explain)

    def worse(self, version: str) -> None:
        fault, reasons = FAULTS[version]
        say(f"{version} is worse: {fault}")
        self.apply(version)

        def rejection() -> dict[str, Any]:
            mine = self.versions.get(version)
            return next((r for r in self.status("rejected") or [] if r["revision"] == mine), {})

        def rolled_back() -> bool:
            canary = self.status("canary") or {}
            if canary.get("version") == version.removeprefix("v"):
                self.versions[version] = canary["revision"]
            return bool(rejection()) and self.status("phase") == "RolledBack"

        wait_until(f"rollback of {version}", rolled_back, 150, self.explain)
        rejected = rejection()
        if self.status("stable", "version") != "2" or rejected["reason"] not in reasons:
            raise DemoError(
                f"{version} should be stopped with one of {reasons}; status says {rejected}. {self.explain()}"
            )
        say(f"{version} was stopped: {rejected['reason']}: {rejected['message']}")
        tally = self.tally(version)
        self.outcomes.append((version, "rolled back", rejected["reason"], tally.requests, tally.failed))

    def kill_operator(self) -> None:
        parts = self.shell.json(f"mlserve local status --data-dir {self.data} --output json")
        pid = next(part["pid"] for part in parts["parts"] if part["name"] == "operator")
        self.shell.run(f"kill -9 {pid}")

    def delete_pod(self, component: str) -> None:
        selector = f"app.kubernetes.io/component={component}"
        if component == "runtime":
            selector += f",mlserve.io/revision={self.versions['v1']}"
        pods = self.shell.json(f"kubectl get pods -l {selector} -o json")["items"]
        self.shell.run(f"kubectl delete pod {pods[0]['metadata']['name']} --wait=false")

    def account(self) -> None:
        if self.stream is None:
            return
        self.stream.stop()
        tallies = self.stream.tallies()
        faulty = {self.versions[v] for v in FAULTS if v in self.versions}
        table = Table("version", "outcome", "reason", "canary requests", "of them failed", title="Rollouts")
        for row in self.outcomes:
            table.add_row(*map(str, row))
        names = {revision: version for version, revision in self.versions.items()}
        traffic = Table(
            "version", "revision", "requests", "failed", "right answers", title="Every answer of the stream"
        )
        for revision, tally in sorted(tallies.items(), key=lambda item: names.get(item[0], "~")):
            share = f"{100 * tally.correct / max(tally.requests, 1):.1f} %"
            row = (names.get(revision, "?"), revision, str(tally.requests), str(tally.failed), share)
            traffic.add_row(*row)
        console = Console(width=110)
        console.print(table)
        console.print(traffic)
        innocent = {r: t for r, t in tallies.items() if r not in faulty and t.failed}
        if innocent:
            first = {revision: tally.errors.most_common(3) for revision, tally in innocent.items()}
            raise DemoError(f"requests failed that no faulty model answered: {first}")
        say(f"{sum(t.requests for t in tallies.values())} requests; none failed but those a faulty model answered")

    def delete(self) -> None:
        say("Everything is deleted")
        self.shell.run(f"kubectl delete mdep {NAME}")
        kinds = "deploy,rs,pods,svc,hpa,pdb,cm,secret,controllerrevisions,endpointslices,networkpolicies"
        mine = "-l app.kubernetes.io/managed-by=mlserve-operator"

        def gone() -> bool:
            return not self.shell.json(f"kubectl get {kinds} {mine} -o json")["items"]

        wait_until(
            "removal of every child", gone, 60, lambda: self.shell.run(f"kubectl get {kinds} {mine}", quiet=True)
        )
        self.shell.run("kubectl get mdep,deploy,hpa,pods")
        say("Nothing is left")


def tell(demo: Demo, *, short: bool) -> None:
    demo.serve()
    demo.look()
    demo.scale()
    demo.start_stream()
    demo.better()
    if not short:
        for version in FAULTS:
            demo.worse(version)
    demo.look()
    demo.account()
    demo.delete()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200, help="requests a second (default 200)")
    parser.add_argument("--short", action="store_true", help="without the faulty versions")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    options = parser.parse_args()
    data = Path(tempfile.mkdtemp(prefix="mlserve-demo-"))
    shell = Shell(data / "kubeconfig")
    demo = Demo(shell, data, options.rate)
    code = 1
    begin = time.monotonic()
    # A CI job that is cancelled says SIGTERM where a person types Ctrl-C; both leave nothing behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        say("A local cluster is started")
        shell.run(f"{BIN / 'mlserve'} local up --detach --data-dir {data}")
        tell(demo, short=options.short)
        code = 0
    except DemoError as error:
        print(f"\nmake demo failed: {error}\nLogs: {data}/logs", file=sys.stderr)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        code = 130
    finally:
        if demo.stream is not None:
            demo.stream.stop()
        if options.keep:
            say(f"The cluster is left running: export KUBECONFIG={data}/kubeconfig")
        else:
            say("The cluster is taken down")
            shell.run(f"{BIN / 'mlserve'} local down --data-dir {data}")
    if code != 1 and not options.keep:
        shutil.rmtree(data)
    if code == 0:
        say(f"Every promise held; {time.monotonic() - begin:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
