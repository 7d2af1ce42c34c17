"""Tools for testing methods and label layers, for this package and for methods written outside it."""
