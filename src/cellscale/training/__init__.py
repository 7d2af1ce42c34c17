"""Learning, without Ray."""
