"""Counting, comparing and deciding under uncertainty: pure functions on counts."""
