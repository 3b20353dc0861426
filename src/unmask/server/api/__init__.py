"""The interfaces that clients know, one file each."""
