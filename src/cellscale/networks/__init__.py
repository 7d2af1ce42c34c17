"""Networks that at least two methods share; every layer is local at inference."""
