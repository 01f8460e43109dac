"""Wait for a condition instead of for a time."""

from __future__ import annotations

from ecpds.conformance.waiting import until as until
