"""Trained models: how they are saved, loaded and shipped."""
