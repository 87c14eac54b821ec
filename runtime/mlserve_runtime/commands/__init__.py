"""Subcommands of `mlserve-runtime`, one module each."""
