"""unmask: one package and one command for the whole life of a BERT-family encoder."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from unmask.bundle import save
    from unmask.errors import UserError
    from unmask.evaluation.evaluate import evaluate
    from unmask.model import Model
    from unmask.runtime.stored import load
    from unmask.training.run import train

_HOME = {
    "Model": "unmask.model",
    "UserError": "unmask.errors",
    "evaluate": "unmask.evaluation.evaluate",
    "load": "unmask.runtime.stored",
    "save": "unmask.bundle",
    "train": "unmask.training.run",
}

__all__ = ["Model", "UserError", "__version__", "evaluate", "load", "save", "train"]


def __getattr__(name: str) -> Any:
    """Fetch a public name when it is first used: `import unmask` itself stays light."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'unmask' has no attribute {name!r}")
