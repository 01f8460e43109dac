"""Dashboard and JSON API: both ask `engine.operations`, both hold the same rights."""
