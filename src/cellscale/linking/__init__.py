"""Linking: objects of neighbouring planes become one object, by integers that do not depend on the tiling."""
