"""Geometry in whole numbers: windows, tiles, seams."""
