"""Every format of a model gives the module's own answers; what cannot be served is refused with a reason."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from mlserve_core.artifact import load_artifact, write_manifest
from mlserve_runtime.backends.architectures import ARCHITECTURES
from mlserve_runtime.backends.base import DeviceOptions, LoadError, named_outputs
from mlserve_runtime.backends.loading import load_backend

ROWS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
ARCHITECTURE = {"name": "mlp", "arguments": {"inputs": 4, "outputs": 3, "hidden": [8]}}


def module() -> torch.nn.Module:
    torch.manual_seed(1)
    made: torch.nn.Module = ARCHITECTURES["mlp"](inputs=4, outputs=3, hidden=[8])
    return made.eval()


def save_safetensors(path: Path) -> None:
    save_file(module().state_dict(), path)


def save_state_dict(path: Path) -> None:
    torch.save(module().state_dict(), path)


def save_checkpoint(path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": module().state_dict()}, path)


def save_torchscript(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module()).save(str(path))


def save_pt2(path: Path) -> None:
    rows = torch.export.Dim("rows", min=1, max=1024)
    program = torch.export.export(module(), (torch.zeros(2, 4),), dynamic_shapes=({0: rows},))
    torch.export.save(program, path)


def save_onnx(path: Path) -> None:
    """The same two layers, written with onnx itself: torch's exporter needs a package of its own."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = [tensor.detach().numpy() for tensor in module().parameters()]
    names = ["w1", "b1", "w2", "b2"]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])],
        [numpy_helper.from_array(array, name) for array, name in zip(weights, names, strict=True)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def artifact(tmp_path: Path, form: str, save: Callable[[Path], None], **changes: Any) -> Any:
    save(tmp_path / "weights.bin" if form != "pt2" else tmp_path / "weights.pt2")
    spec: dict[str, Any] = {
        "name": "m",
        "format": form,
        "weights": "weights.pt2" if form == "pt2" else "weights.bin",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    }
    if form in {"safetensors", "state_dict"}:
        spec["architecture"] = ARCHITECTURE
    spec |= changes
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(spec))
    write_manifest(tmp_path)
    return load_artifact(tmp_path)


def load(found: Any, **options: Any) -> Any:
    return load_backend(found, DeviceOptions(threads=1), **{"allow_code": True, "pinned": False, **options})


@pytest.mark.parametrize(
    ("form", "save"),
    [
        ("safetensors", save_safetensors),
        ("state_dict", save_state_dict),
        ("state_dict", save_checkpoint),
        ("torchscript", save_torchscript),
        ("pt2", save_pt2),
        ("onnx", save_onnx),
    ],
    ids=["safetensors", "state_dict", "checkpoint", "torchscript", "pt2", "onnx"],
)
def test_a_format_gives_the_modules_answers(tmp_path: Path, form: str, save: Callable[[Path], None]) -> None:
    backend = load(artifact(tmp_path, form, save))
    backend.tune({size: {"x": np.resize(ROWS, (size, 4))} for size in (1, 2, 4, 8)})
    with torch.no_grad():
        wanted = module()(torch.from_numpy(ROWS)).numpy()
    for size in (1, 2, 3, 6):
        np.testing.assert_allclose(backend({"x": ROWS[:size].copy()})["y"], wanted[:size], rtol=1e-4, atol=1e-5)
    described = backend.describe()
    assert described["format"] == form
    assert described["threads"] == 1


@pytest.mark.parametrize("form", ["torchscript", "pt2"])
def test_formats_that_run_code_need_a_pin_or_an_opt_in(tmp_path: Path, form: str) -> None:
    found = artifact(tmp_path, form, save_torchscript if form == "torchscript" else save_pt2)
    with pytest.raises(LoadError, match=found.digest):
        load(found, allow_code=False)
    load(found, allow_code=False, pinned=True)


def test_executables_are_measured_and_the_slow_ones_dropped(tmp_path: Path) -> None:
    backend = load(artifact(tmp_path, "safetensors", save_safetensors))
    backend.tune({size: {"x": np.resize(ROWS, (size, 4))} for size in (1, 2, 4)})
    described = backend.describe()
    assert set(described["executables"]) == {"eager", "frozen", "optimized"}
    assert set(described["executables"]["eager"]) == {"1", "2", "4"}
    fastest = min(described["executables"], key=lambda name: described["executables"][name]["1"])
    assert described["fromRows"]["1"] == fastest


@pytest.mark.parametrize(
    ("form", "content", "changes", "text"),
    [
        ("safetensors", b"junk", {}, "no safetensors file"),
        ("state_dict", b"junk", {}, "no plain state_dict"),
        ("torchscript", b"junk", {}, "no TorchScript file"),
        ("pt2", b"junk", {}, "no torch.export file"),
        ("onnx", b"junk", {}, "no ONNX model"),
        ("safetensors", None, {"architecture": {"name": "gpt"}}, "the registry has mlp"),
        ("safetensors", None, {"architecture": {"name": "mlp", "arguments": {"inputs": 4}}}, "refuses its arguments"),
        ("safetensors", None, {"architecture": {"factory": "nowhere:build"}}, "cannot be imported"),
        ("safetensors", None, {"architecture": {"factory": "os.path:join", "arguments": {"a": "x"}}}, "not a torch.nn"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_loaded_says_why(
    tmp_path: Path, form: str, content: bytes | None, changes: dict[str, Any], text: str
) -> None:
    def save(path: Path) -> None:
        if content is None:
            save_safetensors(path)
        else:
            path.write_bytes(content)

    with pytest.raises(LoadError, match=text) as refused:
        load(artifact(tmp_path, form, save, **changes))
    assert str(tmp_path) not in str(refused.value)


def test_a_pickled_module_is_refused_without_being_run(tmp_path: Path) -> None:
    proof = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> Any:
            return (Path.touch, (proof,))

    with pytest.raises(LoadError, match="pickled modules are refused"):
        load(artifact(tmp_path, "state_dict", lambda path: torch.save(Payload(), path)))
    assert not proof.exists()


@pytest.mark.parametrize("device", ["tpu-9000", "cuda"])
def test_a_device_that_is_not_there(tmp_path: Path, device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(LoadError, match="use cpu"):
        load_backend(
            artifact(tmp_path, "safetensors", save_safetensors),
            DeviceOptions(device=device),
            allow_code=False,
            pinned=False,
        )


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_architecture_builds_and_answers(name: str) -> None:
    arguments: dict[str, Any] = {
        "mlp": {"inputs": 4, "outputs": 3},
        "small_cnn": {"classes": 5, "height": 16, "width": 16, "channels": 3},
    }.get(name, {"classes": 5})
    built = ARCHITECTURES[name](**arguments).eval()
    shape = {"mlp": (2, 4), "small_cnn": (2, 3, 16, 16)}.get(name, (2, 3, 32, 32))
    with torch.no_grad():
        assert built(torch.zeros(shape)).shape == (2, 3 if name == "mlp" else 5)


def test_resnet_has_torchvisions_parameter_names() -> None:
    names = set(ARCHITECTURES["resnet18"]().state_dict())
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "layer2.0.downsample.0.weight",
        "layer4.1.conv2.weight",
        "fc.bias",
    } <= names
    assert len(names) == 122


@pytest.mark.parametrize(
    ("values", "wanted"),
    [(1, {"a": 1}), ((1, 2), {"a": 1, "b": 2}), ([1, 2, 3], {"a": 1, "b": 2}), ({"b": 2, "a": 1}, {"a": 1, "b": 2})],
)
def test_outputs_by_name_or_position(values: Any, wanted: dict[str, int]) -> None:
    assert named_outputs(values, tuple(wanted)) == wanted


@pytest.mark.parametrize("values", [(1,), {"c": 1}])
def test_missing_outputs_are_the_artifacts_fault(values: Any) -> None:
    with pytest.raises(LoadError, match="outputs declare"):
        named_outputs(values, ("a", "b"))
