"""Segmenting, without Ray."""
