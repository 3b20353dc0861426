"""Where a model breaks: behaviour, shift between data sets, leakage and label errors."""
