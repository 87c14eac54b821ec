"""The few controllers of Kubernetes that serving a model needs, each a client of the API."""
