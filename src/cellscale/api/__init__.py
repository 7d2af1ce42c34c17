"""The Python API, which the command line calls."""
