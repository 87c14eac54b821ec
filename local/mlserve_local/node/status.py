"""What a pod's status says, computed from what its containers do. Pure, after the kubelet's rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlserve_local.objects import Obj, condition, is_true, with_transition


@dataclass(slots=True)
class ContainerRecord:
    """What is known of one container. `state` holds one of `waiting`, `running`, `terminated`."""

    name: str
    image: str
    state: Obj = field(default_factory=lambda: {"waiting": {"reason": "PodInitializing"}})
    last_state: Obj = field(default_factory=dict)
    restarts: int = 0
    ready: bool = False
    started: bool = False
    container_id: str = ""
    sidecar: bool = False
    """An init container with restartPolicy Always: it runs beside the main ones."""

    @property
    def exit_code(self) -> int | None:
        """Of the present terminated state."""
        terminated = self.state.get("terminated")
        return None if terminated is None else int(terminated["exitCode"])

    @property
    def running(self) -> bool:
        """Is there a process?"""
        return "running" in self.state

    def to_status(self) -> Obj:
        """The entry of containerStatuses."""
        image_id = f"process://{self.image}" if self.container_id else ""
        return {
            "name": self.name,
            "image": self.image,
            "imageID": image_id,
            **({"containerID": self.container_id} if self.container_id else {}),
            "state": self.state,
            "lastState": self.last_state,
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
        }


def init_done(record: ContainerRecord) -> bool:
    """Has an init container done its part? A sidecar has once it has started, whatever becomes of it later."""
    if record.sidecar:
        return record.started or record.exit_code is not None or bool(record.last_state)
    return record.exit_code == 0


def phase(policy: str, init: Sequence[ContainerRecord], main: Sequence[ContainerRecord]) -> str:
    """Pending, Running, Succeeded or Failed."""
    if any(r.exit_code not in (None, 0) for r in init if not r.sidecar) and policy == "Never":
        return "Failed"
    if not all(init_done(r) for r in init):
        return "Pending"
    if all("waiting" in r.state and not r.last_state for r in main):
        return "Pending"
    if not all(r.exit_code is not None for r in main) or policy == "Always":
        return "Running"
    if all(r.exit_code == 0 for r in main):
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


@dataclass(frozen=True, slots=True)
class PodView:
    """Everything but the containers that a status shows."""

    pod: Obj
    pod_ip: str
    host_ip: str
    start_time: str
    now: str
    terminal: bool = False
    """The containers have ended for good because the pod is being deleted."""


def pod_status(view: PodView, init: Sequence[ContainerRecord], main: Sequence[ContainerRecord]) -> Obj:
    """The status that the node owns; conditions of others stay by strategic merge."""
    policy = view.pod["spec"].get("restartPolicy") or "Always"
    current = phase(policy, init, main)
    if view.terminal and current in ("Running", "Pending"):
        current = "Succeeded" if all(r.exit_code == 0 for r in main) else "Failed"
    status: Obj = {
        "phase": current,
        "hostIP": view.host_ip,
        "hostIPs": [{"ip": view.host_ip}],
        "startTime": view.start_time,
        "conditions": _conditions(view, current, init, main),
        "containerStatuses": [record.to_status() for record in main],
    }
    if view.pod_ip:
        status |= {"podIP": view.pod_ip, "podIPs": [{"ip": view.pod_ip}]}
    if init:
        status["initContainerStatuses"] = [record.to_status() for record in init]
    generation = view.pod["metadata"].get("generation")
    if generation:
        status["observedGeneration"] = generation
    return status


def _conditions(
    view: PodView, phase_: str, init: Sequence[ContainerRecord], main: Sequence[ContainerRecord]
) -> list[Obj]:
    completed = phase_ in ("Succeeded", "Failed")
    initialized = _gate(
        "Initialized", "ContainersNotInitialized", "incomplete", [r.name for r in init if not init_done(r)]
    )
    unready = [r.name for r in [*(r for r in init if r.sidecar), *main] if not r.ready]
    containers = _gate("ContainersReady", "ContainersNotReady", "unready", unready)
    if completed:
        reason = "PodCompleted" if phase_ == "Succeeded" else "PodFailed"
        containers = {"type": "ContainersReady", "status": "False", "reason": reason}
        if phase_ == "Succeeded":
            initialized = {"type": "Initialized", "status": "True", "reason": "PodCompleted"}
    ready = {**containers, "type": "Ready"}
    gates = [g["conditionType"] for g in view.pod["spec"].get("readinessGates") or ()]
    closed = [gate for gate in gates if not is_true(view.pod, gate)]
    if ready["status"] == "True" and closed:
        message = "; ".join(f'the status of pod readiness gate "{gate}" is not "True"' for gate in closed)
        ready = {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady", "message": message}
    found = [
        {"type": "PodReadyToStartContainers", "status": "True" if view.pod_ip and not completed else "False"},
        initialized,
        ready,
        containers,
        {"type": "PodScheduled", "status": "True"},
    ]
    return [_complete(view, new) for new in found]


def _gate(kind: str, reason: str, adjective: str, names: Sequence[str]) -> Obj:
    if not names:
        return {"type": kind, "status": "True"}
    message = f"containers with {adjective} status: [{' '.join(names)}]"
    return {"type": kind, "status": "False", "reason": reason, "message": message}


def _complete(view: PodView, new: Obj) -> Obj:
    """Absent texts are sent as null so that a strategic merge removes the old ones."""
    full = {"lastProbeTime": None, "reason": None, "message": None, **new}
    return with_transition(full, condition(view.pod, new["type"]), view.now)
