"""Segmentation, independent of Ray."""
