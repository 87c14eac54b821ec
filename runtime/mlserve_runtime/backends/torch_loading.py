"""Reading PyTorch weights without running what somebody pickled.

A pickled module is a program; `weights_only` and safetensors hold tensors and nothing else, so the code that gives
them meaning comes from the registry of architectures or from a factory installed in the image. TorchScript and pt2
carry code of their own and come here only when that was allowed (loading.load_backend).
"""

from __future__ import annotations

import importlib
import os
import warnings
from pathlib import Path
from typing import Any

from mlserve_core.artifact import Artifact
from mlserve_runtime.backends.base import DeviceOptions, LoadError

os.environ.setdefault("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")

import torch

from mlserve_runtime.backends.architectures import ARCHITECTURES
from mlserve_runtime.backends.torch_backend import TorchBackend


def load_torch(artifact: Artifact, options: DeviceOptions) -> TorchBackend:
    """A backend from any PyTorch format. Raises LoadError."""
    device = _device(options.device)
    torch.set_num_threads(options.threads)
    spec, path = artifact.spec, artifact.weights_path
    traceable = False
    if spec.format == "torchscript":
        module = _load_torchscript(path)
    elif spec.format == "pt2":
        module = _load_exported(path)
    else:
        module, traceable = _build(artifact)
        state = _read_safetensors(path) if spec.format == "safetensors" else _read_state_dict(path)
        _fill(module, state)
    outputs = tuple(tensor.name for tensor in spec.outputs)
    return TorchBackend(
        module,
        outputs,
        device,
        form=spec.format,
        half=options.half_precision,
        graphs=options.cuda_graphs,
        traceable=traceable,
    )


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise LoadError(f"device {name!r} is unknown; use cpu, cuda or cuda:0") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise LoadError(f"device {name!r} was asked for, but torch {torch.__version__} sees no GPU here; use cpu")
    return device


def _build(artifact: Artifact) -> tuple[torch.nn.Module, bool]:
    """The empty module, and whether tracing it is known to be safe (no control flow that depends on data)."""
    declared = artifact.spec.architecture
    if declared is None:
        raise LoadError(f"format {artifact.spec.format} needs architecture in model.yaml")
    if declared.name:
        if declared.name not in ARCHITECTURES:
            known = ", ".join(sorted(ARCHITECTURES))
            raise LoadError(f"architecture {declared.name!r} is unknown; the registry has {known}")
        factory: Any = ARCHITECTURES[declared.name]
    else:
        module_name, _, attribute = declared.factory.partition(":")
        try:
            factory = getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError) as error:
            raise LoadError(
                f"factory {declared.factory} cannot be imported: {error}; install it in the image"
            ) from error
    try:
        module = factory(**declared.arguments)
    except (TypeError, ValueError) as error:
        raise LoadError(f"architecture {declared.name or declared.factory} refuses its arguments: {error}") from error
    if not isinstance(module, torch.nn.Module):
        raise LoadError(f"factory {declared.factory} returned {type(module).__name__}, not a torch.nn.Module")
    return module, bool(declared.name)


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise LoadError(f"{path.name} is no safetensors file: {error}") from error


def _read_state_dict(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise LoadError(
            f"{path.name} is no plain state_dict (pickled modules are refused, they can run any code); "
            "save it with torch.save(model.state_dict(), ...) or, better, as safetensors"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise LoadError(f"{path.name} holds something else than a state_dict of names and tensors")
    return state


def _fill(module: torch.nn.Module, state: dict[str, Any]) -> None:
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        problem = " ".join(str(error).split())[:400]
        raise LoadError(f"the weights do not fit the architecture: {problem}") from error


def _load_torchscript(path: Path) -> torch.nn.Module:
    try:
        with warnings.catch_warnings():
            # Superseded by torch.export, but the format of most models that are served today.
            warnings.simplefilter("ignore", DeprecationWarning)
            load: Any = torch.jit.load
            module: torch.nn.Module = load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise LoadError(
            f"{path.name} is no TorchScript file of torch {torch.__version__}: {_first_line(error)}"
        ) from error
    return module


def _load_exported(path: Path) -> torch.nn.Module:
    try:
        program = torch.export.load(path)
    except Exception as error:
        raise LoadError(
            f"{path.name} is no torch.export file of torch {torch.__version__}: {_first_line(error)}"
        ) from error
    return program.module()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
