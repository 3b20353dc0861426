"""Making a model smaller, and saying what that cost."""
