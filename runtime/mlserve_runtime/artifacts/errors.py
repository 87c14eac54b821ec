"""Why a model could not be fetched.

FetchError              nothing will change by trying again: a wrong address, a refused host, a hostile archive
├── MissingFileError    the store answers, but has no such file
└── TransientFetchError the network or the server; worth another attempt
"""

from __future__ import annotations

from typing import ClassVar


class FetchError(Exception):
    """The artifact cannot be had; the text says what was tried and what to do."""

    reason: ClassVar[str] = "FetchFailed"
    """First word of the termination message."""


class MissingFileError(FetchError):
    """The store answers, but has no such file."""


class TransientFetchError(FetchError):
    """A failure that may pass: a broken connection, 429, 5xx."""
