"""Why a model said what it said, and how far the explanation can be trusted."""

from unmask.explain.explain import explain
from unmask.explain.result import Explanation

__all__ = ["Explanation", "explain"]
