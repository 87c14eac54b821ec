"""`model.yaml`: what a model is, in data - its format, its signature, and how requests become tensors.

Whoever has the weights still does not know what to feed them: which values, in which order, of which type and
scale, and what the numbers that come out are called. A specification answers that once, so that every protocol,
the telemetry and the reference profile mean the same thing by "feature" and "class". Shapes are declared as
clients see them: inputs *before* preprocessing, outputs *after* the activation.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from mlserve_core.processing import Concatenate, Datatype, ImageDecoding, Postprocessing, PreprocessingStep, SpecModel

MAX_FEATURES: Final = 1024
"""Inputs with more values per row (large pictures) have no features by name."""


def check_relative_path(path: str) -> str:
    """Return `path` if it stays inside the artifact: relative, forward slashes, no `..`; else raise ValueError.

    What cannot be printed is refused as well: paths are written to logs and termination messages.
    """
    if {"", ".", ".."}.intersection(path.split("/")) or "\\" in path or not path.isprintable():
        raise ValueError(f"{path!r} is not a plain relative path like weights.safetensors or data/extra.json")
    return path


RelativePath = Annotated[str, AfterValidator(check_relative_path), Field(max_length=512)]


class TensorSpec(SpecModel):
    """One tensor of the signature, as clients see it: inputs *before* preprocessing, outputs *after* the activation."""

    name: str = Field(min_length=1, max_length=253)
    datatype: Datatype
    shape: tuple[int, ...] = Field(min_length=1, max_length=8)
    """-1 first: the rows of a batch. Further -1 are sizes that vary from request to request."""
    features: tuple[str, ...] = ()
    """Names of the columns of a [-1, n] tensor."""
    missing: Literal["reject", "allow"] = "reject"
    """Whether null or NaN is refused with 400 or left to an `impute` step (or to the model)."""

    @model_validator(mode="after")
    def _check(self) -> TensorSpec:
        if self.shape[0] != -1:
            raise ValueError(f"tensor {self.name!r}: shape {list(self.shape)} must begin with -1, the batch")
        if any(size == 0 or size < -1 for size in self.shape):
            raise ValueError(
                f"tensor {self.name!r}: sizes in {list(self.shape)} must be positive, or -1 where they vary"
            )
        if self.features and len(self.features) != self.row_size:
            wanted = "a size that varies" if self.row_size is None else f"{self.row_size} values per row"
            raise ValueError(f"tensor {self.name!r}: {len(self.features)} features named, but shape has {wanted}")
        if len(set(self.features)) != len(self.features):
            raise ValueError(f"tensor {self.name!r}: a feature is named twice")
        return self

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape without the batch axis."""
        return self.shape[1:]

    @property
    def row_size(self) -> int | None:
        """Values per row; None where a size varies."""
        return None if -1 in self.row_shape else math.prod(self.row_shape)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Name of every value of a row, in row-major order: given, or `name`, or `name_0`, `name_1`, ... (≤ 1024)."""
        if self.features:
            return self.features
        if self.row_size is None or self.row_size > MAX_FEATURES:
            return ()
        return (self.name,) if self.row_size == 1 else tuple(f"{self.name}_{i}" for i in range(self.row_size))


class Architecture(SpecModel):
    """What builds the module that safetensors or state_dict weights are loaded into: either name or factory."""

    name: str = ""
    """An architecture of the runtime's registry."""
    factory: str = Field("", pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*)?$")
    """`package.module:function`, importable in the runtime's image."""
    arguments: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Architecture:
        if bool(self.name) == bool(self.factory):
            raise ValueError("architecture needs either name (of the registry) or factory (package.module:function)")
        return self


class ModelSpec(SpecModel):
    """`model.yaml`."""

    schema_version: Literal[1] = 1
    name: str = Field(min_length=1, max_length=63, pattern=r"^[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?$")
    version: str = Field("1", min_length=1, max_length=63)
    description: str = Field("", max_length=4096)
    format: Literal["safetensors", "state_dict", "torchscript", "pt2", "onnx"]
    weights: RelativePath
    architecture: Architecture | None = None
    task: Literal["classification", "regression"] = "classification"
    inputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=256)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=256)
    classes: tuple[str, ...] = ()
    """Labels in the order of the first output's last axis; a single column (sigmoid) takes two."""
    image: ImageDecoding | None = None
    """Where given, pictures are accepted and decoded into the input it names."""
    preprocessing: tuple[PreprocessingStep, ...] = ()
    postprocessing: Postprocessing = Field(default_factory=Postprocessing)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of all values of a row, over all inputs in order; what telemetry counts and a profile describes."""
        return tuple(name for tensor in self.inputs for name in tensor.feature_names)

    @property
    def is_code(self) -> bool:
        """Whether loading runs code of the artifact: such a model needs a pinned digest or an explicit opt-in."""
        return self.format in {"torchscript", "pt2"}

    def input(self, name: str = "") -> TensorSpec:
        """The input of that name; with no name the only one. Raises KeyError with the names there are."""
        for tensor in self.inputs:
            if tensor.name == name or (not name and len(self.inputs) == 1):
                return tensor
        raise KeyError(f"no input {name!r}; the model has {', '.join(t.name for t in self.inputs)}")

    @model_validator(mode="after")
    def _check(self) -> ModelSpec:
        needs_architecture = self.format in {"safetensors", "state_dict"}
        if needs_architecture != (self.architecture is not None):
            hint = "needs architecture.name or architecture.factory" if needs_architecture else "takes no architecture"
            raise ValueError(f"format {self.format} {hint}")
        for kind, tensors in (("inputs", self.inputs), ("outputs", self.outputs)):
            names = [tensor.name for tensor in tensors]
            if len(set(names)) != len(names):
                raise ValueError(f"{kind}: a tensor name occurs twice in {', '.join(names)}")
        if len(set(self.feature_names)) != len(self.feature_names):
            raise ValueError("a feature name occurs in two inputs; name the features of each apart")
        self._check_names()
        self._check_classes()
        return self

    def _check_names(self) -> None:
        known = [tensor.name for tensor in self.inputs]
        uses = [("image", self.image.input)] if self.image else []
        for index, step in enumerate(self.preprocessing):
            inputs = step.inputs if isinstance(step, Concatenate) else (step.input,)
            uses += [(f"preprocessing[{index}] ({step.op})", name) for name in inputs]
            if isinstance(step, Concatenate):
                known.append(step.output)
        for where, name in uses:
            if name not in known and (name or len(self.inputs) > 1):
                wanted = f"unknown input {name!r}" if name else "the model has several inputs: say which"
                raise ValueError(f"{where}: {wanted}; there are {', '.join(known)}")

    def _check_classes(self) -> None:
        width = self.outputs[0].shape[-1] if len(self.outputs[0].shape) > 1 else 1
        if self.task == "regression":
            if self.classes:
                raise ValueError("task regression takes no classes")
            return
        expected = 2 if width == 1 else width
        if self.classes and width != -1 and len(self.classes) != expected:
            raise ValueError(
                f"{len(self.classes)} classes named, but output {self.outputs[0].name!r} tells {expected} apart"
            )
        if len(self.outputs[0].shape) <= 2 and width == 1 and self.postprocessing.activation == "softmax":
            raise ValueError("softmax of a single column is 1 for every row: use sigmoid, or an output of two columns")
        if self.postprocessing.threshold is not None and expected != 2:
            raise ValueError(f"postprocessing.threshold needs two classes, the model has {expected}")
