"""Trimming the vocabulary to the tokens of some texts: most of a multilingual model's weight.

After Abdaoui et al. (arXiv:2010.05609). Nothing is learnt anew: on texts of the kept tokens the
numbers that come out are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from unmask import progress
from unmask.encoder import MaskedHead
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.shrink.rebuilt import State, rebuilt
from unmask.shrink.tokenizer import trimmed


def trim(model: Model, texts: Callable[[], Iterable[str]]) -> Model:
    """The model with the tokens of these texts, and what its tokenizer needs to read them alike.

    The texts are gone through twice. A UserError where there are none, or where one of them would
    be read otherwise.
    """
    used: set[int] = set()
    count = 0
    with progress.bar("read", None, unit="texts") as advance:
        for one in texts():
            used.update(model.text.whole(one).ids.tolist())
            count += 1
            advance(1)
    if not used:
        raise UserError("there are no texts to trim the vocabulary to: name files with --texts")
    tokenizer, old = trimmed(model.text.tokenizer, used)
    text = TextInput(tokenizer, model.text.max_length)
    number = np.full(model.text.vocab_size, -1)
    number[old] = np.arange(len(old))
    with progress.bar("compare", count, unit="texts") as advance:
        for one in texts():
            _check(model.text, text, number, one)
            advance(1)
    rows = torch.tensor(old, device=model.device)
    state = dict(model.encoder.state_dict())
    state["embeddings.token.weight"] = state["embeddings.token.weight"][rows]
    changes = {"vocab_size": len(old), **_positions(model, text, state)}
    config = model.encoder.config.model_copy(update=changes)
    heads = {name: _head(model.head(name), rows) for name in model.tasks}
    return rebuilt(model, config, state, text, heads)


def _check(before: TextInput, after: TextInput, number: np.ndarray, text: str) -> None:
    """Refuse a text that is read otherwise; `number` is the new id of each old one."""
    if not np.array_equal(number[before.whole(text).ids], after.whole(text).ids):
        raise UserError(
            f"with fewer tokens this tokenizer would read {text[:60]!r} otherwise: its "
            "vocabulary cannot be trimmed"
        )


def _head(head: nn.Module, rows: Tensor) -> State:
    """A head's weights, with the output biases of the kept tokens where it has some."""
    state = dict(head.state_dict())
    for name, part in head.named_modules():
        if isinstance(part, MaskedHead):
            key = f"{name}.bias" if name else "bias"
            state[key] = state[key][rows]
    return state


def _positions(model: Model, text: TextInput, state: State) -> dict[str, int]:
    """RoBERTa counts positions from the padding token's number: the table follows it."""
    offset, pad = model.encoder.config.position_offset, text.special_id("pad")
    if not offset or pad is None or pad + 1 == offset:
        return {}
    table = state["embeddings.position.weight"][offset:]
    before_first = table.new_zeros(pad + 1, table.shape[1])
    state["embeddings.position.weight"] = torch.cat((before_first, table))
    return {"position_offset": pad + 1}
