"""The published methods, by name; each is one file.

A method outside the package is named "package.module:Class".
"""
