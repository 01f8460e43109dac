"""A running server of a case; lives in the kit that other packages use too."""

from __future__ import annotations

from ecpds.conformance.site import COMMON as COMMON
from ecpds.conformance.site import KIB as KIB
from ecpds.conformance.site import MIB as MIB
from ecpds.conformance.site import Collected as Collected
from ecpds.conformance.site import Flowing as Flowing
from ecpds.conformance.site import Site as Site
from ecpds.conformance.site import breaks as breaks
from ecpds.conformance.site import descriptor_of as descriptor_of
from ecpds.conformance.site import pattern as pattern
from ecpds.conformance.site import site as site
