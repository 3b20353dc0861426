"""What the two scripts that time a step are told, alike; it runs in the peers' environment too."""

from __future__ import annotations

import argparse


def step_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that knows the batches and the encoder's shape."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--batches", required=True, help=".npz with ids, truth (-100: not asked)")
    for size in ("--layers", "--width", "--heads", "--vocabulary"):
        parser.add_argument(size, type=int, required=True)
    return parser
