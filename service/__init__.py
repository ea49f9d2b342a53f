"""The doors and windows: the command line, HTTP, storage and the dashboard; bytes and requests come in, verdicts go out."""

__version__ = "0.1.0"
