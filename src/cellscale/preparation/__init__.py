"""Preparation of the pixels of an image before it is segmented."""
