"""Training, independent of Ray."""
