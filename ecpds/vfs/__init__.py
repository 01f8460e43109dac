"""One session and one virtual tree under all portals."""
