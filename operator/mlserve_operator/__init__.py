"""The operator: turns ModelDeployments into served models and keeps every new version safe."""
