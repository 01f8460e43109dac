"""Every verb that changes state, once, for pages, API, command line and portals alike."""
