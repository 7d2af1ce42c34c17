"""Coupled active contours: outlines of label images, polygons, and their evolution."""
