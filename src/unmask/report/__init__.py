"""A run in one file: what a manager, an auditor and an engineer ask of a model."""
