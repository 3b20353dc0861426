"""Answering files of any size: in parts, each written whole, so that a kill loses one at most."""
