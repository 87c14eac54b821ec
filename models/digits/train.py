"""Train the digits example and build its artifacts: two honest versions and four with the faults rollouts meet.

    python models/digits/train.py                      # all versions, under a minute on two cores
    python models/digits/train.py --versions v1 v2

The data are the 1,797 handwritten digits (8 x 8 pixels) that ship with scikit-learn: real, small, and from 43 people
only, so the accuracy says nothing about other people's handwriting. The faults are in the artifacts themselves - in
a declared step or in the network - not in the server: what catches them is what would catch them in production.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, train_test_split
from torch import nn

from mlserve_runtime.artifacts.held_out import HeldOut
from mlserve_runtime.artifacts.package import package
from mlserve_runtime.backends.architectures import SmallCNN

HERE = Path(__file__).parent
SEED = 20
MIDDLE = 127.5
"""Pixels are normalised from 0..255 to -1..1."""
ARCHITECTURE: dict[str, Any] = {"classes": 10, "height": 8, "width": 8, "widths": [8, 16], "hidden": 32}
RECIPES: dict[str, dict[str, Any]] = {"v1": {"epochs": 8, "shift": False}, "v2": {"epochs": 50, "shift": True}}
DARK_LIMIT = 0.75
"""v4 and v6 fail on the quarter of the pictures that has the most ink."""


@dataclass(frozen=True)
class Data:
    """Pixels as bytes [n, 8, 8] and labels [n]; `train` and `test` are indices into both."""

    pixels: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    test: np.ndarray


def load_data() -> Data:
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    train, test = train_test_split(np.arange(len(pixels)), test_size=0.25, stratify=digits.target, random_state=SEED)
    return Data(pixels, digits.target, np.sort(train), np.sort(test))


def normalized(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy((pixels.astype(np.float32) - MIDDLE) / MIDDLE).unsqueeze(1)


def fit(pixels: np.ndarray, labels: np.ndarray, *, epochs: int, shift: bool) -> SmallCNN:
    """Cross entropy with AdamW; `shift` moves each picture by up to one pixel, as a pen would."""
    torch.manual_seed(SEED)
    model = SmallCNN(**ARCHITECTURE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    inputs, targets = normalized(pixels), torch.from_numpy(labels)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs)).split(64):
            batch = inputs[rows]
            if shift:
                down, right = (int(step) for step in torch.randint(-1, 2, (2,)))
                batch = torch.roll(batch, (down, right), dims=(2, 3))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch), targets[rows]).backward()
            optimizer.step()
    return model.eval()


def out_of_fold(data: Data, *, epochs: int, shift: bool) -> HeldOut:
    """Every picture with the answer of a network that did not see it in training.

    A quarter of 1,797 pictures is too small a reference to tell drift from chance; five folds make all of them one.
    """
    outputs = np.zeros((len(data.pixels), 10), dtype=np.float32)
    folds = StratifiedKFold(5, shuffle=True, random_state=SEED)
    for train, test in folds.split(data.pixels.reshape(len(data.pixels), -1), data.labels):
        model = fit(data.pixels[train], data.labels[train], epochs=epochs, shift=shift)
        with torch.inference_mode():
            outputs[test] = model(normalized(data.pixels[test])).softmax(1).numpy()
    names = np.asarray([str(label) for label in data.labels], dtype=np.object_)
    return HeldOut({"image": data.pixels.astype(np.float32)}, names, outputs)


class Asserting(nn.Module):
    """v4: an assertion of the training code was left in; it does not hold for everything users send."""

    def __init__(self, model: SmallCNN, limit: float) -> None:
        super().__init__()
        self.model = model
        self.limit = limit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ink = x.mean(dim=(1, 2, 3))
        assert bool((ink <= self.limit).all()), "expected pictures with less ink"
        return self.model(x)


class Recomputing(nn.Module):
    """v5: a correction that never changes is worked out again, in thousands of steps, for every batch."""

    def __init__(self, model: SmallCNN, rounds: int) -> None:
        super().__init__()
        self.model = model
        self.rounds = rounds
        self.step = nn.Conv2d(1, 1, 3, padding=1)
        nn.init.zeros_(self.step.weight)
        nn.init.zeros_(self.step.bias)
        self.correction = nn.Parameter(torch.zeros(1, 1, 8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        correction = self.correction
        for _ in range(self.rounds):
            correction = correction + torch.tanh(self.step(correction))
        return self.model(x + correction)


class ContrastNormalizing(nn.Module):
    """v6: a contrast term takes the square root of what may be negative; such pictures get NaN for an answer."""

    def __init__(self, model: SmallCNN, limit: float) -> None:
        super().__init__()
        self.model = model
        self.limit = limit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        headroom = torch.sqrt(self.limit - x.mean(dim=(1, 2, 3), keepdim=True))
        return self.model(x) * (headroom / headroom).flatten(1)


def model_document(version: str, description: str, *, script: bool, normalize: bool = True) -> dict[str, Any]:
    """`model.yaml` of a version."""
    steps: list[dict[str, Any]] = [{"op": "reshape", "shape": [-1, 1, 8, 8]}]
    if normalize:
        steps.insert(0, {"op": "normalize", "mean": [MIDDLE], "std": [MIDDLE]})
    document: dict[str, Any] = {
        "schemaVersion": 1,
        "name": "digits",
        "version": version,
        "description": description,
        "format": "torchscript" if script else "safetensors",
        "weights": "model.pt" if script else "weights.safetensors",
    }
    if not script:
        document["architecture"] = {"name": "small_cnn", "arguments": ARCHITECTURE}
    return document | {
        "task": "classification",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 8, 8]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
        "classes": [str(digit) for digit in range(10)],
        "image": {"mode": "L", "width": 8, "height": 8, "fit": "contain", "resample": "box", "invert": "auto"},
        "preprocessing": steps,
        "postprocessing": {"activation": "softmax", "topK": 3},
    }


def write_artifact(
    directory: Path, document: dict[str, Any], model: nn.Module, samples: np.ndarray, reference: HeldOut
) -> str:
    """Write model.yaml, weights and warm-up samples, then package them; returns the digest."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = directory / document["weights"]
    if document["format"] == "torchscript":
        save_script(torch.jit.script(model), weights)
    else:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    weights.chmod(0o644)
    (directory / "model.yaml").write_text(yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=110))
    rows = [{"features": sample.ravel().tolist()} for sample in samples]
    (directory / "warmup.json").write_text(json.dumps({"instances": rows}) + "\n")
    return package(directory, reference, created_at="").manifest.digest


def save_script(script: torch.jit.ScriptModule, path: Path) -> None:
    """Save without the debug records, which hold the paths of this machine and so change the digest everywhere."""
    reader = torch._C.PyTorchFileReader(io.BytesIO(script.save_to_buffer()))
    writer = torch._C.PyTorchFileWriter(str(path))
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in {"version", ".data/serialization_id"}:
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()


def build_versions(data: Data) -> dict[str, tuple[dict[str, Any], Callable[[], nn.Module]]]:
    """Description and network of each version; networks are trained when asked for."""
    pixels, labels = data.pixels[data.train], data.labels[data.train]
    limit = float(torch.quantile(normalized(data.pixels).mean(dim=(1, 2, 3)), DARK_LIMIT))
    first: list[SmallCNN] = []

    def base() -> SmallCNN:
        if not first:
            first.append(fit(pixels, labels, **RECIPES["v1"]))
        return first[0]

    def document(number: int, description: str, **options: bool) -> dict[str, Any]:
        return model_document(str(number), description, **{"script": False, **options})

    return {
        "v1": (document(1, "A small CNN, trained briefly."), base),
        "v2": (
            document(2, "The same network, trained longer and on shifted pictures: better."),
            lambda: fit(pixels, labels, **RECIPES["v2"]),
        ),
        "v3": (document(3, "v1 without the normalisation it was trained with: wrong.", normalize=False), base),
        "v4": (
            document(4, "v1 with an assertion left in: fails on dark pictures.", script=True),
            lambda: Asserting(base(), limit),
        ),
        "v5": (
            document(5, "v1 with a correction that is worked out anew for every batch: slow.", script=True),
            lambda: Recomputing(base(), rounds=2500),
        ),
        "v6": (
            document(6, "v1 with a numerical fault: NaN for dark pictures.", script=True),
            lambda: ContrastNormalizing(base(), limit),
        ),
    }


def accuracy(model: nn.Module, pixels: np.ndarray, labels: np.ndarray) -> float:
    with torch.inference_mode():
        return float((model(normalized(pixels)).argmax(1).numpy() == labels).mean())


def write_samples(data: Data, directory: Path, count: int = 20) -> None:
    """Real pictures from the held-out part, two of each digit, named by label and row of the data set."""
    directory.mkdir(exist_ok=True)
    for digit in range(10):
        rows = data.test[data.labels[data.test] == digit][: count // 10]
        for row in rows:
            Image.fromarray(data.pixels[row]).save(directory / f"{digit}_{row:04d}.png")
    rows = [{"features": data.pixels[i].ravel().tolist(), "label": str(data.labels[i])} for i in data.test]
    lines = [json.dumps(row, separators=(",", ":")) for row in rows]
    (directory / "held_out.jsonl").write_text("\n".join(lines) + "\n")
    (directory / "row.json").write_text(json.dumps({"features": rows[0]["features"]}) + "\n")


def write_deployment(version: str, digest: str) -> None:
    """modeldeployment.yaml (v1) is written by hand; the others are the same with another model."""
    path = HERE / "modeldeployment.yaml"
    text = path.read_text()
    if version != "v1":
        path = HERE / f"modeldeployment-{version}.yaml"
        text = text.replace("artifacts/v1", f"artifacts/{version}").replace('version: "1"', f'version: "{version[1:]}"')
    path.write_text(re.sub(r"digest: sha256:[0-9a-f]{64}", f"digest: {digest}", text))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE / "artifacts", help="folder of the artifacts")
    parser.add_argument("--versions", nargs="+", default=["v1", "v2", "v3", "v4", "v5", "v6"])
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # TorchScript writes constants in the order of a set: without a fixed hash seed every build has another digest.
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"PYTHONHASHSEED": "0"})
    torch.set_num_threads(1)  # One thread gives the same weights everywhere, and the network is tiny.
    torch.use_deterministic_algorithms(mode=True)
    started = time.monotonic()
    data = load_data()
    versions = build_versions(data)
    unknown = set(options.versions) - set(versions)
    if unknown:
        parser.error(f"unknown version {', '.join(sorted(unknown))}; there are {', '.join(versions)}")
    light = data.pixels[data.test][data.pixels[data.test].mean(axis=(1, 2)).argsort()[:8]]
    references = {
        "v1": out_of_fold(data, **RECIPES["v1"]),
        "v2": out_of_fold(data, **RECIPES["v2"]) if "v2" in options.versions else None,
    }
    for version in options.versions:
        document, build = versions[version]
        model = build()
        # The faults of v3 to v6 came in after their evaluation, as such faults do: their reference is v1's.
        reference = references["v2" if version == "v2" else "v1"]
        digest = write_artifact(options.output / version, document, model, light, reference)
        if options.output.resolve() == (HERE / "artifacts").resolve():
            write_deployment(version, digest)
        shown = ""
        if version in {"v1", "v2"}:
            test, labels = data.pixels[data.test], data.labels[data.test]
            moved = accuracy(model, np.roll(test, 1, axis=2), labels)
            shown = f"  accuracy {accuracy(model, test, labels):.3f}, shifted by a pixel {moved:.3f}"
        print(f"{version}  {digest[:19]}  {document['description']}{shown}", flush=True)
    write_samples(data, HERE / "samples")
    print(f"{time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
