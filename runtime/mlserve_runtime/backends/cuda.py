"""Feeding a GPU: pinned staging buffers, a stream of its own, and half precision where asked.

A copy from pageable memory blocks the stream it is on; a copy from pinned memory overlaps with the computation of
the batch before. One stream per worker keeps them from waiting for each other. Everything here is skipped on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from mlserve_runtime.backends.base import Tensors


class Staging:
    """Pinned buffers of the largest batch seen, per input; reused, never shared between threads."""

    def __init__(self, device: torch.device, *, half: bool) -> None:
        self._device = device
        self._half = half
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._buffers: dict[str, torch.Tensor] = {}

    def run(self, call: Callable[..., Any], inputs: Tensors) -> Any:
        """Copy in, compute, and wait for the results."""
        with torch.cuda.stream(self._stream):
            results = call(*[self._stage(name, torch.from_numpy(array)) for name, array in inputs.items()])
        self._stream.synchronize()
        return results

    def _stage(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        buffer = self._buffers.get(name)
        if (
            buffer is None
            or buffer.dtype != tensor.dtype
            or buffer.shape[1:] != tensor.shape[1:]
            or len(buffer) < len(tensor)
        ):
            buffer = self._buffers[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        pinned = buffer[: len(tensor)]
        pinned.copy_(tensor)
        staged = pinned.to(self._device, non_blocking=True)
        return staged.half() if self._half and staged.is_floating_point() else staged
