"""Servers of the data portal: each knows its protocol and the session, nothing else."""
