"""A data hub in one process: acquire, store, disseminate, serve, notify and watch."""

__version__ = "0.1.0"
