"""Compiled forms of a model: its graph, the engines that run it, and what a bundle keeps of them.

Read `graph`, `engines`, `form`, then `stored`.
"""
