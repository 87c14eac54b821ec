"""The inference server: one process serves one revision of one model."""
