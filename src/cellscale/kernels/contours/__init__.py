"""Coupled active contours: polygons, outlines and their evolution."""
