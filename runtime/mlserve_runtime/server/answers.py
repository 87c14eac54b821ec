"""The bodies of answers that are no predictions, for the OpenAPI document and for what is checked against it."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field


class ErrorBody(BaseModel):
    """Every failed call, whatever the protocol."""

    error: str
    """What was wrong, where, and what would have worked."""


class Health(BaseModel):
    """`/health`."""

    status: str
    ready: bool
    model: str
    version: str
    revision: str
    uptime_seconds: float = Field(serialization_alias="uptimeSeconds")


class FeedbackReport(BaseModel):
    """What came out, for a prediction id of an earlier answer."""

    model_config = ConfigDict(extra="forbid")

    id: str
    label: str | int | None = None
    """The true class, by name or index."""
    reward: float | None = None
    """How good the prediction was, for models without classes."""


class FeedbackReceipt(BaseModel):
    """What became of a report."""

    counted: bool
    """False if the prediction was reported before: the first report counts."""
    revision: str


class ServerLive(BaseModel):
    """V2: it answers."""

    live: bool


class ServerReady(BaseModel):
    """V2: predictions are answered. (The specification's text calls the field `live`, its servers `ready`.)"""

    live: bool = True
    ready: bool


class ModelReady(BaseModel):
    """V2 and V1: predictions of this model are answered."""

    name: str
    ready: bool


class ModelList(BaseModel):
    """V1 and V2: the names of what is served."""

    models: list[str]


class ServerMetadata(BaseModel):
    """V2."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """V2: one input or output; -1 is a size that varies."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """V2."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


DESCRIPTIONS: Final = {
    400: "the values contradict the signature, or the body is malformed",
    404: "another model or version, an unknown entity or prediction id",
    405: "another method",
    413: "too many bytes or rows",
    415: "a content type or encoding that is not read here",
    429: "refused for load; see Retry-After",
    500: "the model failed",
    503: "loading or draining",
    504: "expired",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses` for statuses whose body is an ErrorBody."""
    return {status: {"model": ErrorBody, "description": DESCRIPTIONS[status]} for status in statuses}
