"""Train the tumor example and build its artifact: a table of 30 named features, two classes.

    python models/tumor/train.py                       # a few seconds

The data are the 569 rows of the Wisconsin diagnostic breast cancer set (1993) that ship with scikit-learn: thirty
measurements of cell nuclei, benign or malignant. It is an example of a tabular model and nothing more; with so few
rows from one hospital it says nothing about patients, and its reference profile can only tell large drift from chance.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold, train_test_split
from torch import nn

from mlserve_runtime.artifacts.held_out import HeldOut
from mlserve_runtime.artifacts.package import package
from mlserve_runtime.backends.architectures import mlp

HERE = Path(__file__).parent
SEED = 20
ARCHITECTURE: dict[str, Any] = {"inputs": 30, "outputs": 2, "hidden": [64, 32]}
EPOCHS = 60


def fit(rows: np.ndarray, labels: np.ndarray, mean: np.ndarray, std: np.ndarray) -> nn.Module:
    torch.manual_seed(SEED)
    model = mlp(**ARCHITECTURE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    inputs, targets = standardized(rows, mean, std), torch.from_numpy(labels)
    model.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(inputs)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimizer.step()
    return model.eval()


def standardized(rows: np.ndarray, mean: np.ndarray, std: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(((rows - mean) / std).astype(np.float32))


def probabilities(model: nn.Module, rows: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(standardized(rows, mean, std)).softmax(1).numpy()


def out_of_fold(rows: np.ndarray, labels: np.ndarray, classes: list[str]) -> HeldOut:
    """Every row with the answer of a network that did not see it in training."""
    outputs = np.zeros((len(rows), 2), dtype=np.float32)
    for train, test in StratifiedKFold(5, shuffle=True, random_state=SEED).split(rows, labels):
        mean, std = rows[train].mean(axis=0), rows[train].std(axis=0)
        outputs[test] = probabilities(fit(rows[train], labels[train], mean, std), rows[test], mean, std)
    names = np.asarray([classes[label] for label in labels], dtype=np.object_)
    return HeldOut({"features": rows.astype(np.float32)}, names, outputs)


def model_document(features: list[str], classes: list[str], mean: np.ndarray, std: np.ndarray) -> dict[str, Any]:
    return {
        "schemaVersion": 1,
        "name": "tumor",
        "version": "1",
        "description": "Benign or malignant, from thirty measurements of cell nuclei. An example, not a diagnosis.",
        "format": "safetensors",
        "weights": "weights.safetensors",
        "architecture": {"name": "mlp", "arguments": ARCHITECTURE},
        "task": "classification",
        "inputs": [{"name": "features", "datatype": "FP32", "shape": [-1, len(features)], "features": features}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}],
        "classes": classes,
        "preprocessing": [
            {
                "op": "normalize",
                "mean": [float(f"{value:.6g}") for value in mean],
                "std": [float(f"{value:.6g}") for value in std],
            }
        ],
        "postprocessing": {"activation": "softmax", "topK": 2},
    }


def write_samples(rows: np.ndarray, labels: np.ndarray, features: list[str], classes: list[str]) -> None:
    """Held-out rows: one as a request, all as a CSV file with labels."""
    directory = HERE / "samples"
    directory.mkdir(exist_ok=True)
    first = dict(zip(features, rows[0].tolist(), strict=True))
    (directory / "row.json").write_text(json.dumps({"features": first}) + "\n")
    with (directory / "held_out.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*features, "label"])
        for row, label in zip(rows, labels, strict=True):
            writer.writerow([*row.tolist(), classes[label]])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE / "artifacts", help="folder of the artifacts")
    options = parser.parse_args()
    torch.set_num_threads(1)  # One thread gives the same weights everywhere, and the network is tiny.
    torch.use_deterministic_algorithms(mode=True)
    started = time.monotonic()
    data = load_breast_cancer()
    features = [name.replace(" ", "_") for name in data.feature_names]
    classes = [str(name) for name in data.target_names]
    rows, held_rows, labels, held_labels = train_test_split(
        data.data, data.target, test_size=0.25, stratify=data.target, random_state=SEED
    )
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    model = fit(rows, labels, mean, std)

    directory = options.output / "v1"
    directory.mkdir(parents=True, exist_ok=True)
    weights = directory / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    weights.chmod(0o644)
    document = model_document(features, classes, mean, std)
    (directory / "model.yaml").write_text(yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=110))
    instances = [{"features": row.tolist()} for row in held_rows[:8]]
    (directory / "warmup.json").write_text(json.dumps({"instances": instances}) + "\n")
    made = package(directory, out_of_fold(data.data, data.target, classes), created_at="")

    if options.output.resolve() == (HERE / "artifacts").resolve():
        path = HERE / "modeldeployment.yaml"
        digest = made.manifest.digest
        path.write_text(re.sub(r"digest: sha256:[0-9a-f]{64}", f"digest: {digest}", path.read_text()))
        write_samples(held_rows, held_labels, features, classes)
    right = probabilities(model, held_rows, mean, std).argmax(1) == held_labels
    print(f"v1  {made.manifest.digest[:19]}  held-out accuracy {right.mean():.3f}, {len(right)} rows")
    for note in made.notes:
        print(f"note: {note}")
    print(f"{time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
