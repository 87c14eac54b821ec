"""How a new revision takes over: pure decisions, with time and measurements as arguments."""
