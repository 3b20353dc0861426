"""A vocabulary of one's own: its kinds, learning it, and how well it fits a language."""

from unmask.inputs.vocabulary.balance import Spoken, balanced
from unmask.inputs.vocabulary.fertility import Fertility, fertility
from unmask.inputs.vocabulary.kinds import SPECIAL, wordpiece
from unmask.inputs.vocabulary.learn import learn

__all__ = ["SPECIAL", "Fertility", "Spoken", "balanced", "fertility", "learn", "wordpiece"]
