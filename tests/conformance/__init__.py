"""One suite for all transfer modules and servers; a new module adds a `Case`, not tests."""
