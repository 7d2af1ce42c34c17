"""Viewers: stores served to neuroglancer and napari, and contact sheets."""
