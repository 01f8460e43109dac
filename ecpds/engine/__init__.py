"""Schedulers and operations: what moves files, and every verb that changes state."""
