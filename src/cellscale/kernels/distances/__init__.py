"""Exact Euclidean distances, nearest labels and their building blocks."""
