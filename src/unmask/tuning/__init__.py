"""Choosing a compiled form: making it, measuring how faithful and how fast it is, keeping it.

Read `making`, `contract`, then `tune`.
"""
