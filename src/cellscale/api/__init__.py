"""The Python API: everything that the command line calls."""
