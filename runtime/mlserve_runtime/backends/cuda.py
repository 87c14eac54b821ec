"""Feeding a GPU: pinned buffers, a stream of its own, half precision and CUDA graphs where asked.

A copy from pageable memory blocks the stream it is on; a copy from pinned memory overlaps with whatever else the card
does. One stream per model keeps it from waiting for the default stream's users. A small model spends more time on
launching its kernels than on running them: a CUDA graph launches all of them at once, but for fixed shapes only, so
one is captured per batch size of the warm-up and a batch is padded to the next larger one.

On a CPU device everything here works on ordinary memory and without streams. That is how it is tested; capturing and
replaying a real graph needs a card.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import torch

from mlserve_runtime.backends.base import LoadError, Tensors, named_outputs

logger = logging.getLogger(__name__)

_CAPTURE_WARM_UPS: Final = 3
"""Runs before a capture: libraries choose algorithms and allocate workspaces in the first ones."""

DeviceTensors: TypeAlias = dict[str, torch.Tensor]
Call: TypeAlias = Callable[[DeviceTensors], DeviceTensors]
"""A forward pass, by names."""
Capture: TypeAlias = Callable[[Call, DeviceTensors], tuple[Callable[[], None], DeviceTensors]]
"""Record a pass over static inputs; returns what replays it, and the static outputs it writes to."""


@dataclass(frozen=True, slots=True)
class CapturedPass:
    """A recorded pass of one batch size."""

    rows: int
    inputs: DeviceTensors
    outputs: DeviceTensors
    replay: Callable[[], None]

    def fits(self, inputs: DeviceTensors) -> bool:
        """Whether rows of this shape and datatype are what was recorded."""
        return inputs.keys() == self.inputs.keys() and all(
            tensor.dtype == self.inputs[name].dtype and tensor.shape[1:] == self.inputs[name].shape[1:]
            for name, tensor in inputs.items()
        )

    def run(self, inputs: DeviceTensors, rows: int) -> DeviceTensors:
        """Fill in the rows, zeros behind them, and replay. The outputs are overwritten by the next run."""
        for name, tensor in inputs.items():
            static = self.inputs[name]
            static[:rows].copy_(tensor)
            static[rows:].zero_()
        self.replay()
        return {name: output[:rows] for name, output in self.outputs.items()}


class CapturedPasses:
    """A recorded pass per batch size; none where recording failed or was not asked for."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._passes: list[CapturedPass] = []

    @property
    def sizes(self) -> list[int]:
        """Batch sizes that were recorded."""
        return [one.rows for one in self._passes]

    def record(self, call: Call, samples: Mapping[int, DeviceTensors]) -> None:
        """Record every size, the largest first, so that the smaller ones share its memory. All of them or none."""
        passes: list[CapturedPass] = []
        try:
            for rows, inputs in sorted(samples.items(), reverse=True):
                replay, outputs = self._capture(call, inputs)
                if any(output.dim() == 0 or len(output) != rows for output in outputs.values()):
                    logger.warning("no CUDA graphs: an output has not as many rows as the inputs")
                    return
                passes.append(CapturedPass(rows, inputs, outputs, replay))
        except RuntimeError as error:
            # Models that look at their values (data-dependent branches, .item()) cannot be recorded.
            logger.warning("no CUDA graphs: %s", (str(error).splitlines() or [type(error).__name__])[0])
            return
        self._passes = passes[::-1]

    def find(self, inputs: DeviceTensors, rows: int) -> CapturedPass | None:
        """The smallest recorded pass these rows fit into; None if they are too many or of another shape."""
        place = bisect_left(self._passes, rows, key=lambda one: one.rows)
        if place == len(self._passes) or not self._passes[place].fits(inputs):
            return None
        return self._passes[place]


class Executor:
    """Runs a model's passes on a device: copy in, compute, copy out. Used by one thread at a time.

    Args:
        device: Where the module is.
        outputs: Declared names of the outputs.
        half: Floating-point inputs become float16 on the device, floating-point outputs float32 again.
        capture: Records passes; None runs every pass launch by launch.
    """

    def __init__(
        self, device: torch.device, outputs: tuple[str, ...], *, half: bool = False, capture: Capture | None = None
    ) -> None:
        self._device = device
        self._outputs = outputs
        self._half = half
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._buffers: dict[str, torch.Tensor] = {}
        self._passes = CapturedPasses(capture) if capture is not None else None

    @property
    def captured_sizes(self) -> list[int]:
        """Batch sizes with a CUDA graph."""
        return self._passes.sizes if self._passes is not None else []

    def run(self, module: Callable[..., Any], inputs: Tensors) -> Tensors:
        """One pass; outputs by name, on the CPU, the caller's own."""
        rows = len(next(iter(inputs.values())))
        with torch.cuda.stream(self._stream):
            staged = {name: self._to_device(name, torch.from_numpy(array)) for name, array in inputs.items()}
            captured = self._passes.find(staged, rows) if self._passes is not None else None
            results = captured.run(staged, rows) if captured is not None else self._call(module)(staged)
            fetched = {name: self._to_host(name, value) for name, value in results.items()}
        if self._stream is not None:
            self._stream.synchronize()
        return {name: tensor.numpy().copy() for name, tensor in fetched.items()}

    def record(self, module: Callable[..., Any], samples: Mapping[int, Tensors]) -> None:
        """Record a pass per sample (rows -> inputs), where that was asked for."""
        if self._passes is None:
            return
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            static = {
                rows: {name: self._convert(torch.from_numpy(array).to(self._device)) for name, array in inputs.items()}
                for rows, inputs in samples.items()
            }
            self._passes.record(self._call(module), static)

    def _call(self, module: Callable[..., Any]) -> Call:
        def call(inputs: DeviceTensors) -> DeviceTensors:
            results = named_outputs(module(*inputs.values()), self._outputs)
            return {name: self._restore(value) for name, value in results.items()}

        return call

    def _to_device(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        pinned = self._buffer(f"input {name}", tensor)
        pinned.copy_(tensor)
        return self._convert(pinned.to(self._device, non_blocking=True))

    def _to_host(self, name: str, value: torch.Tensor) -> torch.Tensor:
        pinned = self._buffer(f"output {name}", value)
        pinned.copy_(value, non_blocking=True)
        return pinned

    def _convert(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.half() if self._half and tensor.is_floating_point() else tensor

    def _restore(self, value: torch.Tensor) -> torch.Tensor:
        """NumPy knows no bfloat16, and clients were promised the precision the model declares, not the device's."""
        if not isinstance(value, torch.Tensor):
            raise LoadError(f"the model returns {type(value).__name__} where a tensor is declared")
        reduced = value.dtype is torch.bfloat16 or (self._half and value.dtype is torch.float16)
        return value.float() if reduced else value

    def _buffer(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """A pinned buffer of this shape: the rows of the largest one that was needed, reused."""
        buffer = self._buffers.get(name)
        if (
            buffer is None
            or buffer.dtype != like.dtype
            or buffer.shape[1:] != like.shape[1:]
            or (like.dim() > 0 and len(buffer) < len(like))
        ):
            pin = self._device.type == "cuda"
            buffer = self._buffers[name] = torch.empty(like.shape, dtype=like.dtype, pin_memory=pin)
        return buffer[: len(like)] if like.dim() else buffer


def cuda_capture(device: torch.device) -> Capture:
    """Records CUDA graphs that share one pool of memory; call and replay on the stream that is current."""
    pool = torch.cuda.graph_pool_handle()

    def capture(call: Call, inputs: DeviceTensors) -> tuple[Callable[[], None], DeviceTensors]:
        stream = torch.cuda.current_stream(device)
        for _ in range(_CAPTURE_WARM_UPS):
            call(inputs)
        graph = torch.cuda.CUDAGraph()
        # Thread-local: another version of the model may be served by another thread meanwhile.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            outputs = call(inputs)
        return graph.replay, outputs

    return capture
