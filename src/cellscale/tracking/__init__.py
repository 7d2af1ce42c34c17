"""Tracking: the run that follows the objects of a label layer through time and writes the layer of their tracks."""
