"""Settings of the server: read once from the environment the operator sets, overridden by flags, then immutable."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from mlserve_core import wire

ENV_TERMINATION_LOG: Final = "MLSERVE_TERMINATION_LOG"
ENV_PREFIX: Final = "MLSERVE_"
PAYLOAD_FORMATS: Final = ("json", "parquet")
MAX_SOCKET_PATH: Final = 107
"""Bytes of a Unix socket's address on Linux, unix(7), without the closing zero."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything `mlserve-runtime serve` can be told. Times are seconds unless the name says otherwise."""

    host: str = "0.0.0.0"
    http_port: int = wire.HTTP_PORT
    grpc_port: int = wire.GRPC_PORT
    """-1 serves no gRPC."""
    management_port: int = wire.MANAGEMENT_PORT
    model_dir: Path = Path(wire.MODEL_DIR)
    model_name: str = ""
    """Name in URLs; empty takes the artifact's."""
    model_version: str = ""
    model_digest: str = ""
    allow_code: bool = False
    """Load formats that run code of the artifact (TorchScript, pt2) without a pinned digest."""
    revision: str = "local"
    pod: str = ""
    pod_uid: str = ""
    namespace: str = ""
    device: str = "cpu"
    half_precision: bool = False
    """CUDA only: compute in float16."""
    cuda_graphs: bool = False
    """CUDA only: record the pass of every warm-up size and replay it; batches are padded to the next size."""
    processes: int = 1
    """Serving processes behind the same ports; at most one a CPU, each with a copy of the model."""
    threads: int = 0
    """Intra-op threads; 0 takes the cgroup's CPU quota, shared out among the processes."""
    max_rows: int = 64
    """Rows of one forward pass."""
    max_delay_micros: int = 0
    """How long a batch may wait for company; 0 never waits."""
    queue_rows: int = 4096
    timeout_millis: int = 10_000
    latency_target_millis: int = 0
    """Batches grow and shrink to keep the forward pass under this; 0 leaves them at max_rows."""
    max_body_bytes: int = 64 * 1024 * 1024
    max_simple_batch: int = 32
    """Rows of one /predict/batch."""
    decode_threads: int = 2
    response_cache_bytes: int = 0
    """Memory for answers to inputs that were seen before; 0 remembers none."""
    response_cache_seconds: float = 300.0
    """Age at which a remembered answer is computed anew."""
    payload_log: str = ""
    """Where sampled payloads go: a file for json, a directory for parquet; empty logs none."""
    payload_format: str = "json"
    """json: a line for every request. parquet: a row for every prediction, in files of 10,000 rows or a minute."""
    payload_sample_per_mille: int = 10
    payload_redact: tuple[str, ...] = ()
    """Names of features and tensors whose values never reach the payload log."""
    comparison_dir: Path = Path(wire.COMPARISON_DIR)
    feedback_keys_dir: Path = Path(wire.FEEDBACK_KEYS_DIR)
    drain_socket: Path = Path("/tmp/mlserve-drain.sock")  # noqa: S108 - below TMPDIR where that is set
    drain_delay: float = 2.0
    """After `drain`, requests are still answered this long: endpoints and routers need a moment to hear of it."""
    grace: float = 25.0
    """Longest wait for what is in flight once the process ends."""
    watch: bool = False
    """Reload the artifact in place when it changes (for use without Kubernetes)."""
    log_level: str = "info"
    termination_log: Path = Path("/dev/termination-log")
    boot_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def timeout(self) -> float:
        """Deadline of a request that sets none."""
        return self.timeout_millis / 1000


_FIXED: Final = {
    "host": wire.ENV_BIND_HOST,
    "pod": wire.ENV_POD_NAME,
    "model_digest": wire.ENV_MODEL_DIGEST,
}


def env_name(name: str) -> str:
    """The environment variable of a setting: `max_rows` is read from MLSERVE_MAX_ROWS."""
    return _FIXED.get(name, ENV_PREFIX + name.upper())


def read_settings(environment: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
    """Settings from the environment, then from `overrides` that are not None.

    Raises:
        ValueError: A value cannot be read; the text names the variable.
    """
    defaults = Settings()
    values: dict[str, Any] = {}
    for name in Settings.__slots__:
        text = environment.get(env_name(name), "")
        if text:
            values[name] = _parse(env_name(name), text, getattr(defaults, name))
    values.update({name: value for name, value in overrides.items() if value is not None})
    settings = replace(defaults, **values)
    if settings.payload_format not in PAYLOAD_FORMATS:
        raise ValueError(
            f"{env_name('payload_format')}={settings.payload_format!r} is none of {', '.join(PAYLOAD_FORMATS)}"
        )
    if "drain_socket" not in values:
        settings = replace(settings, drain_socket=_drain_socket(environment, settings.pod_uid))
    return settings


def _drain_socket(environment: Mapping[str, str], pod_uid: str) -> Path:
    """A path in the one directory that is writable under a read-only root.

    Pods of a local cluster share one file system, and the directory of theirs may be too deep for the address of a
    socket; then the pod's uid makes a short path unique.
    """
    path = Path(environment.get("TMPDIR") or "/tmp") / "mlserve-drain.sock"  # noqa: S108
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH and not (pod_uid and path.parent == Path("/tmp")):  # noqa: S108
        return path
    return Path(f"/tmp/mlserve-drain-{pod_uid or os.getuid()}.sock")  # noqa: S108


def _parse(name: str, text: str, default: Any) -> Any:
    kind = type(default)
    try:
        if kind is bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
        if kind is tuple:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return kind(text)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{name}={text!r} is no {'true or false' if kind is bool else kind.__name__}") from error
