"""What the GPUs of the container are doing, asked of NVIDIA's management library when somebody scrapes.

A node exporter says it for the node; this says it for the pod that pays for the GPU. Without a GPU, its driver or the
extra `gpu` there are no metrics and no error. A card that does not know a value (many have no power meter in a MIG
slice) leaves out that one.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

GPU_METRICS: Final[Mapping[str, str]] = {
    "mlserve_gpu_utilization_ratio": "Share of the last moments in which a kernel ran on the GPU, 0 to 1",
    "mlserve_gpu_memory_used_bytes": "Memory of the GPU in use, by all its users",
    "mlserve_gpu_memory_total_bytes": "Memory of the GPU",
    "mlserve_gpu_temperature_celsius": "Temperature of the GPU",
    "mlserve_gpu_power_watts": "Power the GPU draws",
}

_READERS: Final[Mapping[str, Callable[[Any, Any], float]]] = {
    "mlserve_gpu_utilization_ratio": lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
    "mlserve_gpu_memory_used_bytes": lambda nvml, gpu: float(nvml.nvmlDeviceGetMemoryInfo(gpu).used),
    "mlserve_gpu_memory_total_bytes": lambda nvml, gpu: float(nvml.nvmlDeviceGetMemoryInfo(gpu).total),
    "mlserve_gpu_temperature_celsius": lambda nvml, gpu: float(
        nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)
    ),
    "mlserve_gpu_power_watts": lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
}


class GpuCollector(Collector):
    """A gauge per value and GPU, labelled with index, UUID and name."""

    def __init__(self, nvml: Any) -> None:
        """`nvml` is the initialised module pynvml."""
        self._nvml = nvml
        self._gpus: list[tuple[list[str], Any]] = []
        for index in range(nvml.nvmlDeviceGetCount()):
            gpu = nvml.nvmlDeviceGetHandleByIndex(index)
            self._gpus.append(([str(index), nvml.nvmlDeviceGetUUID(gpu), nvml.nvmlDeviceGetName(gpu)], gpu))

    def collect(self) -> Iterable[Metric]:
        """All families of GPU_METRICS that any GPU has a value for."""
        for name, read in _READERS.items():
            family = GaugeMetricFamily(name, GPU_METRICS[name], labels=["gpu", "uuid", "model"])
            for labels, gpu in self._gpus:
                try:
                    family.add_metric(labels, read(self._nvml, gpu))
                except self._nvml.NVMLError as error:
                    logger.debug("GPU %s has no %s: %s", labels[0], name, error)
            if family.samples:
                yield family


def gpu_collector() -> GpuCollector | None:
    """A collector where there is a GPU that can be asked; None elsewhere."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        return GpuCollector(nvml)
    except nvml.NVMLError as error:
        logger.debug("no GPU metrics: %s", error)
        return None
