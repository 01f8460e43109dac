"""The client contract: what a transfer module is, and what the hub does around it."""
