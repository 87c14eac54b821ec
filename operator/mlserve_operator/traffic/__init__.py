"""How requests are split between revisions: configuration as data, for Envoy or for a Gateway."""
