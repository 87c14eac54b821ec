"""Who is at fault: the client (`InputError`, answered with 400) or the artifact (`PipelineError`, refused at load)."""

from __future__ import annotations

from mlserve_runtime.errors import InvalidInputError


class InputError(InvalidInputError):
    """A request that does not fit the signature. The text names the tensor or feature and what was expected."""

    def __init__(self, message: str, *, row: int | None = None) -> None:
        super().__init__(message if row is None else f"row {row}: {message}")
        self.row = row
        """Index of the row at fault within the request, where that is known."""


class PipelineError(ValueError):
    """Declared steps that cannot work on the declared tensors."""
