"""The command line and the supervisor: parse, compose, start the others."""

__version__ = "0.1.0"
