"""What the process counts about itself: evidence for the operator, metrics for people, logs for both."""
