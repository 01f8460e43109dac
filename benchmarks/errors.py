"""The one error of a measurement."""

from __future__ import annotations


class MeasurementFailed(RuntimeError):
    """A run did not do its work: the client failed, or files are missing or short.

    Such a run has no number. The harness records the text and leaves the contender out of the
    remaining rounds, so that a broken contender never looks fast.
    """
