"""Models behind HTTP: scheduling, the interfaces that clients know, safety, and a page."""
