"""Desired objects, one kind per file: plain functions from a specification to a Kubernetes object."""
