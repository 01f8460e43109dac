"""Tests of ecpds; a package, so that tests import `tests.peers` and `tests.clock`."""
