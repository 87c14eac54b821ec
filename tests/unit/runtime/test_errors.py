"""What clients are told, whatever they sent."""

from __future__ import annotations

import pytest

from mlserve_runtime.errors import MAX_TEXT, InvalidInputError, NotFoundError, OverloadedError, UnavailableError
from mlserve_runtime.processing.errors import InputError


@pytest.mark.parametrize(
    "error",
    [
        InvalidInputError("a" * 100_000),
        NotFoundError("a" * 100_000),
        OverloadedError("a" * 100_000, 1.0),
        UnavailableError("a" * 100_000, elsewhere=True),
        InputError("a" * 100_000, row=1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_text_that_repeats_what_was_sent_stays_short_enough_for_a_grpc_header(error: Exception) -> None:
    assert MAX_TEXT <= len(str(error)) <= MAX_TEXT + 3
