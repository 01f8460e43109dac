"""Free TCP ports that stay ours."""

from __future__ import annotations

from ecpds.conformance.ports import BLOCK as BLOCK
from ecpds.conformance.ports import reserved as reserved
