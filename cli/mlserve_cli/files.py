"""Files a user names: what cannot be written is one clear line, as what cannot be read is."""

from __future__ import annotations

from pathlib import Path

from mlserve_cli.errors import CommandError


def write_text(path: str, text: str) -> None:
    """Write a file in UTF-8. Raises CommandError that says why it cannot be written."""
    try:
        Path(path).write_text(text, encoding="utf-8")
    except FileNotFoundError:
        raise CommandError(f"{path} cannot be written: there is no directory {Path(path).parent}") from None
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None
