"""Linking: objects of neighbouring planes become one object, by whole numbers that no tiling changes."""
