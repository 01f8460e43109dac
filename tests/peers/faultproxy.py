"""A TCP proxy that breaks connections at a chosen byte."""

from __future__ import annotations

from ecpds.conformance.faultproxy import MIRROR as MIRROR
from ecpds.conformance.faultproxy import Channel as Channel
from ecpds.conformance.faultproxy import Fault as Fault
from ecpds.conformance.faultproxy import FaultProxy as FaultProxy
from ecpds.conformance.faultproxy import Kind as Kind
from ecpds.conformance.faultproxy import Way as Way
from ecpds.conformance.faultproxy import corrupt as corrupt
from ecpds.conformance.faultproxy import delay as delay
from ecpds.conformance.faultproxy import drop as drop
from ecpds.conformance.faultproxy import share as share
from ecpds.conformance.faultproxy import stall as stall
from ecpds.conformance.faultproxy import truncate as truncate
