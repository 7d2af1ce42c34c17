"""Tracking: a run that links the objects of a label layer through time and writes a layer of their tracks."""
