"""The embedded development cluster: API server, controllers, node and network, each a client of the API alone."""
