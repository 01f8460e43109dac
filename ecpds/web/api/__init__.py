"""`/api/v2`: one file a noun, described by the route table that it is served from."""
