"""Why the process ends, where the kubelet looks for it: the termination message, which the operator reads."""

from __future__ import annotations

import logging

from mlserve_runtime.settings import Settings

logger = logging.getLogger(__name__)


def write_termination_message(settings: Settings, message: str) -> None:
    """Leave the reason where the kubelet looks for it."""
    try:
        settings.termination_log.write_text(message[:4096], encoding="utf-8")
    except OSError as error:
        logger.warning("the termination message cannot be written: %s", error)


def end_with(settings: Settings, error: Exception) -> int:
    """Say in the log and in the termination message why nothing is served; the exit status."""
    logger.error("%s", error)
    write_termination_message(settings, str(error))
    return 1
