"""What turns a request into a model's input and its output into a prediction, as declared in `model.yaml`.

A model that was trained on scaled pixels and is served raw ones answers confidently and wrongly. So the steps
between a client's value and the tensor travel with the weights, as data: no code is shipped, every protocol means
the same *raw* values, and a forgotten step is visible in a diff. This module holds the declarations only; the
runtime executes them on whole batches.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]
"""Datatypes of the Open Inference Protocol."""

ImageFormat = Literal["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]


class SpecModel(BaseModel):
    """camelCase in the file; an unknown field is an error, since a misspelt step would silently not happen."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class ImageDecoding(SpecModel):
    """How the bytes of a picture become the raw input tensor: decode, convert, resize, crop."""

    input: str = ""
    """Name of the input tensor the picture fills; empty where the model has only one."""
    mode: Literal["L", "RGB"] = "RGB"
    """`L` is one channel of luminance, `RGB` three."""
    width: int = Field(ge=1, le=8192)
    height: int = Field(ge=1, le=8192)
    fit: Literal["stretch", "cover", "contain"] = "stretch"
    """stretch ignores the aspect ratio; cover fills and crops the centre; contain pads with `background`."""
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos", "box"] = "bilinear"
    resize_shorter_side: int | None = Field(None, ge=1, le=8192)
    """First scale the shorter side to this, then crop the centre: the usual evaluation of ImageNet models."""
    background: int = Field(0, ge=0, le=255)
    """What transparent areas and padding turn into."""
    invert: Literal["never", "always", "auto"] = "never"
    """auto inverts a picture whose border is brighter than half: a black drawing on white paper."""
    formats: tuple[ImageFormat, ...] = ("PNG", "JPEG", "WEBP", "BMP")
    max_pixels: int = Field(16_777_216, ge=1, le=268_435_456)
    """Checked from the header, before anything is decoded."""


class Cast(SpecModel):
    """Convert to another datatype."""

    op: Literal["cast"]
    input: str = ""
    datatype: Datatype


class Scale(SpecModel):
    """x * factor + offset."""

    op: Literal["scale"]
    input: str = ""
    factor: float = 1.0
    offset: float = 0.0


class Normalize(SpecModel):
    """(x - mean) / std, one pair for all values or one per entry of `axis`."""

    op: Literal["normalize"]
    input: str = ""
    mean: tuple[float, ...] = Field(min_length=1)
    std: tuple[float, ...] = Field(min_length=1)
    axis: int = -1
    """Axis of a batch along which mean and std vary: -1 for columns or H,W,C; -3 (or 1) for C,H,W."""

    @model_validator(mode="after")
    def _check(self) -> Normalize:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} entries and std {len(self.std)}; give one std per mean")
        if any(value <= 0 for value in self.std):
            raise ValueError("every std must be greater than 0; drop a constant feature or give it std 1")
        return self


class Clip(SpecModel):
    """Limit values to an interval."""

    op: Literal["clip"]
    input: str = ""
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Clip:
        if self.min is None and self.max is None:
            raise ValueError("clip needs min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"clip: min {self.min} is greater than max {self.max}")
        return self


class Impute(SpecModel):
    """Replace missing values (NaN) by one value, or by one per entry of the last axis (training means, medians)."""

    op: Literal["impute"]
    input: str = ""
    values: tuple[float, ...] = Field(min_length=1)


class Reshape(SpecModel):
    """New shape of a batch; -1 stands for the number of rows and comes first."""

    op: Literal["reshape"]
    input: str = ""
    shape: tuple[int, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Reshape:
        if self.shape[0] != -1 or any(size < 1 for size in self.shape[1:]):
            raise ValueError(f"reshape: shape {list(self.shape)} must be -1 (rows) followed by positive sizes")
        return self


class Transpose(SpecModel):
    """Reorder the axes of a batch; axis 0 is the batch and stays: [0, 3, 1, 2] turns H,W,C into C,H,W."""

    op: Literal["transpose"]
    input: str = ""
    axes: tuple[int, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _check(self) -> Transpose:
        if self.axes[0] != 0 or sorted(self.axes) != list(range(len(self.axes))):
            raise ValueError(f"transpose: axes {list(self.axes)} must be a permutation that leaves 0, the batch, first")
        return self


class Encode(SpecModel):
    """Turn a column of categories into numbers: one column each, or the index."""

    op: Literal["encode"]
    input: str = ""
    categories: tuple[str, ...] = Field(min_length=1)
    encoding: Literal["one_hot", "ordinal"] = "one_hot"
    unknown: Literal["error", "ignore"] = "error"
    """ignore: a category never seen becomes all zeros (one_hot) or -1 (ordinal)."""

    @model_validator(mode="after")
    def _check(self) -> Encode:
        if len(set(self.categories)) != len(self.categories):
            raise ValueError("encode: categories contains an entry twice")
        return self


class Concatenate(SpecModel):
    """Join several tensors into one along the last axis; a column of shape [rows] counts as [rows, 1]."""

    op: Literal["concatenate"]
    inputs: tuple[str, ...] = Field(min_length=1)
    output: str = Field(min_length=1)


PreprocessingStep = Annotated[
    Cast | Scale | Normalize | Clip | Impute | Reshape | Transpose | Encode | Concatenate, Field(discriminator="op")
]


class Postprocessing(SpecModel):
    """From the first output tensor to an answer people can read."""

    activation: Literal["none", "softmax", "sigmoid"] = "none"
    """Applied to the first output. Give `none` where the model already ends in probabilities (or in a score)."""
    top_k: int = Field(3, ge=1, le=100)
    """How many classes the simple API lists."""
    threshold: float | None = Field(None, ge=0, le=1)
    """Two classes: the second is predicted from this probability on, instead of from the larger one."""
    scale: float = 1.0
    """Regression: prediction = output * scale + offset, to undo a scaling of the target."""
    offset: float = 0.0
