"""Measurements of the daemon beside the servers that sites use today.

`python -m benchmarks` runs the cases of `benchmarks/cases`; README.md beside this file says how to
read the table. Nothing here is imported by the daemon, and no test is timed.
"""

from __future__ import annotations
