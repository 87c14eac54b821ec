"""One forward pass in PyTorch, by the fastest of several equivalent executables.

The same weights can run eagerly, as a TorchScript graph, or frozen and optimised, and none is fastest everywhere: on
one core a frozen CNN took 24 instead of 103 us per sample in batches, but 117 instead of 84 us for one sample. So all
that agree with each other are kept, timed per batch size during the warm-up, and the faster one is used.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch

from mlserve_runtime.backends.base import LoadError, Tensors, named_outputs

logger = logging.getLogger(__name__)

_ROUNDS: Final = 5
_BUDGET_SECONDS: Final = 0.25
"""Time given to the comparison of executables; a slow model is compared on fewer sizes rather than started late."""
_COMPARISON_SECONDS: Final = 1.0
"""Time an executable has to show that it gives the model's answers."""
_PATIENCE_SECONDS: Final = 1.0
"""A model whose first run of every batch size took longer runs as it is: freezing one may take minutes (a loop of
thousands of convolutions is unrolled), and the readiness of its pod is worth more than a few percent."""


@dataclass(slots=True, eq=False)
class _Executable:
    name: str
    call: Callable[..., Any]
    micros: dict[int, float] = field(default_factory=dict)
    """Best time per batch size."""


class TorchBackend:
    """A module on a device. See backends.base.Backend."""

    def __init__(
        self,
        module: torch.nn.Module,
        outputs: tuple[str, ...],
        device: torch.device,
        *,
        form: str,
        half: bool = False,
        graphs: bool = False,
        traceable: bool = False,
    ) -> None:
        if form != "pt2":  # an exported program was exported in the mode it runs in
            module.eval()
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        if device.type == "cuda":
            module = module.to(device)
            module = module.half() if half else module
        self._form = form
        self._outputs = outputs
        self._device = device
        self._traceable = traceable
        self._module = module
        self._executables = [_Executable("eager" if form != "torchscript" else "script", module)]
        self._fastest: list[_Executable] = []
        self._measured: dict[str, dict[int, float]] = {}
        self._accelerator: Any = None
        if device.type == "cuda":
            from mlserve_runtime.backends.cuda import Executor, cuda_capture

            capture = cuda_capture(device) if graphs else None
            self._accelerator = Executor(device, outputs, half=half, capture=capture)

    def __call__(self, inputs: Tensors) -> dict[str, Any]:
        """Run on the worker thread; arrays are shared with torch without a copy where they are on the CPU."""
        rows = len(next(iter(inputs.values())))
        call = self._choose(rows)
        if not torch.is_inference_mode_enabled():
            # For good: nothing on a thread that runs a model needs gradients, and entering costs as much as a layer.
            torch.inference_mode().__enter__()
        if self._accelerator is not None:
            outputs: dict[str, Any] = self._accelerator.run(call, inputs)
            return outputs
        results = call(*[torch.from_numpy(array) for array in inputs.values()])
        if type(results) is torch.Tensor and len(self._outputs) == 1:
            return {self._outputs[0]: _to_numpy(results)}
        return {name: _to_numpy(value) for name, value in named_outputs(results, self._outputs).items()}

    def tune(self, samples: Mapping[int, Tensors]) -> None:
        """Run every batch size once (errors of the model come out here), then choose executables by time."""
        arguments: dict[int, list[torch.Tensor]] = {}
        began = time.perf_counter()
        wanted: dict[int, Tensors] = {}
        for rows, inputs in samples.items():
            wanted[rows] = self(inputs)
            arguments[rows] = [torch.from_numpy(array) for array in inputs.values()]
        spent = time.perf_counter() - began
        if self._accelerator is not None:
            self._accelerator.record(self._module, samples)
        if self._device.type != "cpu" or self._form == "pt2":
            return
        if spent > _PATIENCE_SECONDS:
            logger.info("the first runs took %.1f s; the model is served as it is, without other executables", spent)
            return
        with torch.inference_mode():
            self._executables += [
                candidate
                for candidate in self._candidates(arguments[max(arguments)])
                if self._agrees(candidate, arguments, wanted, time.perf_counter() + _COMPARISON_SECONDS)
            ]
            if len(self._executables) > 1:
                self._measure(arguments)

    def describe(self) -> dict[str, Any]:
        """Format, device, threads, and what runs from which batch size on with its measured microseconds."""
        chosen: dict[str, str] = {}
        for rows, executable in enumerate(self._fastest):
            if rows and (rows == 1 or executable is not self._fastest[rows - 1]):
                chosen[str(rows)] = executable.name
        return {
            "platform": "pytorch",
            "format": self._form,
            "device": str(self._device),
            "threads": torch.get_num_threads(),
            **({"cudaGraphs": self._accelerator.captured_sizes} if self._accelerator is not None else {}),
            "executables": {
                name: {str(rows): round(value, 1) for rows, value in micros.items()}
                for name, micros in (self._measured or {self._executables[0].name: {}}).items()
            },
            "fromRows": chosen or {"1": self._executables[0].name},
        }

    def release_thread(self) -> None:
        """PyTorch keeps the number of threads per thread that calls it."""
        torch.set_num_threads(torch.get_num_threads())

    def _choose(self, rows: int) -> Callable[..., Any]:
        if not self._fastest:
            return self._executables[0].call
        return self._fastest[min(rows, len(self._fastest) - 1)].call

    def _candidates(self, example: list[torch.Tensor]) -> list[_Executable]:
        """Other ways to run the same module; tracing only what is known to have no data-dependent branches."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", category=UserWarning)
            try:
                if isinstance(self._module, torch.jit.ScriptModule):
                    script: Any = self._module
                elif self._traceable:
                    trace: Any = torch.jit.trace
                    script = trace(self._module, tuple(example), check_trace=False)
                else:
                    return []
                frozen = torch.jit.freeze(script)
                return [
                    _Executable("frozen", frozen),
                    _Executable("optimized", torch.jit.optimize_for_inference(torch.jit.freeze(script))),
                ]
            except Exception as error:  # noqa: BLE001 - an optimisation that fails is not used
                logger.info("the model is not frozen: %s", str(error).splitlines()[0] if str(error) else error)
                return []

    def _agrees(
        self,
        candidate: _Executable,
        arguments: Mapping[int, list[torch.Tensor]],
        wanted: Mapping[int, Tensors],
        until: float,
    ) -> bool:
        """Whether a candidate gives the module's answers on every size, within the time there is.

        A graph is specialised in its first runs, so the smallest and the largest size are run several times.
        """
        ends = {min(arguments), max(arguments)}
        try:
            for rows, example in arguments.items():
                for _ in range(3 if rows in ends else 1):
                    results = named_outputs(candidate.call(*example), self._outputs)
                    if time.perf_counter() > until:
                        logger.info("executable %s is too slow to be compared with the model", candidate.name)
                        return False
                got = {name: _to_numpy(value) for name, value in results.items()}
                if not all(_close(wanted[rows][name], got[name]) for name in self._outputs):
                    logger.warning("executable %s gives other answers than the model; it is not used", candidate.name)
                    return False
        except (RuntimeError, LoadError, NotImplementedError) as error:
            logger.info("executable %s does not run: %s", candidate.name, str(error).splitlines()[0])
            return False
        return True

    def _measure(self, arguments: Mapping[int, list[torch.Tensor]]) -> None:
        until = time.perf_counter() + _BUDGET_SECONDS
        best: dict[int, _Executable] = {}
        for rows, example in sorted(arguments.items()):
            if best and time.perf_counter() > until:
                break
            for executable in self._executables:
                executable.micros[rows] = _best_micros(executable.call, example)
            best[rows] = min(self._executables, key=lambda executable: executable.micros[rows])
        sizes = sorted(best)
        for rows in range(max(arguments) + 1):
            nearest = min(sizes, key=lambda size: abs(np.log2(max(rows, 1) / size)))
            self._fastest.append(best[nearest])
        self._measured = {executable.name: executable.micros for executable in self._executables}
        # An executable that is never the fastest would only keep a second copy of its weights.
        self._executables = [executable for executable in self._executables if executable in self._fastest]


def _best_micros(call: Callable[..., Any], example: list[torch.Tensor]) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        call(*example)
        best = min(best, time.perf_counter() - began)
    return best * 1e6


def _close(wanted: Any, got: Any) -> bool:
    if wanted.dtype.kind != "f":
        return bool(np.array_equal(wanted, got))
    return wanted.shape == got.shape and bool(np.allclose(wanted, got, rtol=1e-3, atol=1e-4, equal_nan=True))


def _to_numpy(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        raise LoadError(f"the model returns {type(value).__name__} where a tensor is declared")
    if value.dtype is torch.bfloat16:
        value = value.float()
    return value.numpy() if value.is_cpu else value.cpu().numpy()
