"""`/ecpds/v1`: the calls of OpenECPDS, for programs that were written for it."""
