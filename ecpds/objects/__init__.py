"""Content: one plain file an object, durable before anybody is told of it."""
