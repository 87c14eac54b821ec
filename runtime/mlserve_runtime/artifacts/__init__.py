"""Bringing model artifacts to the server (`mlserve-runtime fetch`) and making them (`package`, `profile`)."""
