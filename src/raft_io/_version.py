"""The version of the package, for it and for its build."""

__version__ = "0.1.0"
