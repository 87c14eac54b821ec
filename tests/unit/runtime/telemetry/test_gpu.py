"""GPU metrics, with the management library replaced at its functions: no GPU is needed, and none is tested."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mlserve_runtime.telemetry.gpu import GPU_METRICS, GpuCollector, gpu_collector


class NVMLError(Exception):
    """What pynvml raises."""


def nvml(gpus: int = 2, *, missing: tuple[str, ...] = (), broken: bool = False) -> Any:
    """The functions of pynvml that are called, with what an A100 answers."""

    def answer(name: str, value: Any) -> Any:
        def call(*_: Any) -> Any:
            if name in missing:
                raise NVMLError("Not Supported")
            return value

        return call

    def initialise() -> None:
        if broken:
            raise NVMLError("Driver Not Loaded")

    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=initialise,
        nvmlDeviceGetCount=lambda: gpus,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUUID=lambda gpu: f"GPU-{gpu}",
        nvmlDeviceGetName=lambda _: "NVIDIA A100",
        nvmlDeviceGetUtilizationRates=answer("utilization", SimpleNamespace(gpu=37, memory=12)),
        nvmlDeviceGetMemoryInfo=answer("memory", SimpleNamespace(used=2**30, free=79 * 2**30, total=80 * 2**30)),
        nvmlDeviceGetTemperature=answer("temperature", 54),
        nvmlDeviceGetPowerUsage=answer("power", 61_500),
    )


def exposed(collector: GpuCollector) -> str:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def test_every_gpu_and_value() -> None:
    text = exposed(GpuCollector(nvml()))
    labels = 'gpu="1",model="NVIDIA A100",uuid="GPU-1"'
    assert f"mlserve_gpu_utilization_ratio{{{labels}}} 0.37" in text
    assert f"mlserve_gpu_memory_used_bytes{{{labels}}} 1.073741824e+09" in text
    assert f"mlserve_gpu_memory_total_bytes{{{labels}}} 8.589934592e+10" in text
    assert f"mlserve_gpu_temperature_celsius{{{labels}}} 54.0" in text
    assert f"mlserve_gpu_power_watts{{{labels}}} 61.5" in text
    assert all(f"# TYPE {name} gauge" in text for name in GPU_METRICS)


def test_what_a_gpu_does_not_know_is_left_out() -> None:
    text = exposed(GpuCollector(nvml(missing=("power", "utilization"))))
    assert "power" not in text
    assert "utilization" not in text
    assert "mlserve_gpu_temperature_celsius" in text


def test_without_a_driver_or_the_library_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(broken=True))
    assert gpu_collector() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_collector() is None
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    assert gpu_collector() is not None


def test_the_real_library_has_every_name_that_is_used() -> None:
    import pynvml

    assert [name for name in vars(nvml()) if not hasattr(pynvml, name)] == []
