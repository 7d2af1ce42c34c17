"""Exact geometry on label images: pure functions on arrays, compiled by Numba."""
