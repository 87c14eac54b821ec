"""The page at `/`: one file, no build step, no external assets."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def render_page() -> str:
    """The page; everything in it is fetched from /model/info and /stats by its script."""
    return files("mlserve_runtime.server").joinpath("page.html").read_text(encoding="utf-8")
