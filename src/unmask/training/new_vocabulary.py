"""A new vocabulary on a pretrained model, its token vectors carried over."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from tokenizers import Tokenizer
from torch import Tensor, nn

from unmask.encoder import Encoder, MaskedHead
from unmask.errors import UserError
from unmask.inputs.forms import folded, forms
from unmask.inputs.text import TextInput
from unmask.inputs.token_vectors import TokenVectors, token_vectors
from unmask.inputs.vectors import WordVector
from unmask.model import Model, task_from_record

log = logging.getLogger("unmask")

_ROLES = ("pad", "unknown", "begin", "end", "mask")
_NEAREST = 10  # old tokens that a new one is mixed of, and how sharply by likeness: as in WECHSEL
_SHARPNESS = 0.1
_AT_ONCE = 256  # new tokens compared with all old ones


def with_vocabulary(
    model: Model, tokenizer: Tokenizer, words: Callable[[], Iterable[WordVector]], seed: int
) -> Model:
    """The model with another vocabulary: its heads and all other weights stay as they are.

    A token that says what an old one says has its vector. Any other is mixed of old tokens that are
    like it by static vectors: after FOCUS (Dobler & de Melo, arXiv:2305.14481), with the mixture of
    WECHSEL (Minixhofer et al., arXiv:2112.06598). `words` are asked for only where some token needs
    them. What no word holds is the mean of the old tokens that it is read as, and where there are
    none it is drawn at random, from a normal like the old vectors'. The output biases of
    masked-language heads go the same way.
    """
    kinds = model.encoder.config.num_segments
    text = TextInput(tokenizer if kinds != 1 else _of_one_kind(tokenizer), model.text.max_length)
    mixture = _mixture(model.text, text, model.encoder.config.vocab_size, words)
    encoder = _encoder(model.encoder, text, mixture, seed)
    tasks = {record["name"]: task_from_record(record, text) for record in model.task_records()}
    heads = {}
    for name, task in tasks.items():
        task.calibration = {}  # it was fitted to what the old tokens make of texts
        heads[name] = task.build(encoder)
        heads[name].load_state_dict(_head_state(model.head(name), mixture))
    return Model(encoder, text, tasks, heads, model.pooling)


def round_up(size: int, multiple: int = 64) -> int:
    """Vocabularies of a round size multiply faster."""
    return -(-size // multiple) * multiple


@dataclass(frozen=True)
class _Mixture:
    """What each row of a new table is made of."""

    weights: csr_array  # (V, old V): the share of each old row
    drawn: np.ndarray  # (n,) int: the tokens made of none
    old_size: int  # rows of the old table that are tokens

    def vectors(self, old: Tensor, seed: int) -> Tensor:
        """The new rows of the token table (old V, E); zeros behind the last token."""
        table = _numbers(old)
        rows = self.weights @ table  # (V, E)
        mean, std = table[: self.old_size].mean(0), table[: self.old_size].std(0)
        shape = (len(self.drawn), len(mean))
        rows[self.drawn] = np.random.default_rng(seed).normal(mean, std, shape)
        return torch.from_numpy(rows).to(old)

    def biases(self, old: Tensor) -> Tensor:
        """The new output biases (V,).

        Where nothing is known it is an average one, and behind the last token the lowest.
        """
        table = _numbers(old)
        bias = self.weights @ table  # (V,)
        bias[self.drawn] = table[: self.old_size].mean()
        nobody = np.diff(self.weights.indptr) == 0
        nobody[self.drawn] = False
        bias[nobody] = table.min()
        return torch.from_numpy(bias).to(old)


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def _mixture(
    old: TextInput, new: TextInput, old_rows: int, words: Callable[[], Iterable[WordVector]]
) -> _Mixture:
    copied = agreed(old, new)
    ids = set(new.tokenizer.get_vocab(with_added_tokens=True).values())
    rest = np.array(sorted(ids - copied.keys()), dtype=np.int64)
    pairs = np.array(list(copied.items()), dtype=np.int64).reshape(-1, 2)
    rows, columns, shares = pairs[:, 0], pairs[:, 1], np.ones(len(pairs))
    mixed = 0
    if len(rest):
        ours, theirs = token_vectors(words(), new, old)
        targets, near, weight = _near(ours, theirs, rest)  # (n,), (n, k), (n, k)
        parts = _parts(old, new, np.setdiff1d(rest, targets))
        mixed = len(targets) + len({token for token, _, _ in parts})
        more = np.array(parts, dtype=np.float64).reshape(-1, 3)
        rows = np.concatenate((rows, np.repeat(targets, near.shape[1]), more[:, 0].astype(int)))
        columns = np.concatenate((columns, near.ravel(), more[:, 1].astype(int)))
        shares = np.concatenate((shares, weight.ravel(), more[:, 2]))
    log.info(
        "the new vocabulary has %d tokens: the vectors of %d are copied, of %d combined from old "
        "ones, of %d drawn at random",
        len(ids),
        len(copied),
        mixed,
        len(ids) - len(copied) - mixed,
    )
    shape = (round_up(new.vocab_size), old_rows)
    weights = coo_array((shares, (rows, columns)), shape=shape).tocsr()
    return _Mixture(weights, np.setdiff1d(list(ids), rows), old.vocab_size)


def agreed(old: TextInput, new: TextInput) -> dict[int, int]:
    """The new tokens that say what an old one says, each with the number of that one.

    Special tokens agree by their part. Others by what they stand for, however the vocabularies
    write that, and after the old one's normalisation: without capitals, say, where it has none.
    """
    found = {
        ours: theirs
        for role in _ROLES
        if (ours := new.special_id(role)) is not None
        and (theirs := old.special_id(role)) is not None
    }
    known = {form: i for i, form in sorted(forms(old).items(), reverse=True)}
    loosely = {form.loose: i for form, i in sorted(known.items(), key=lambda item: -item[1])}
    for i, form in forms(new).items():
        read = folded(form, old)
        match = known.get(form, known.get(read, loosely.get(read.loose)))
        if match is not None:
            found[i] = match
    return found


def _parts(old: TextInput, new: TextInput, wanted: np.ndarray) -> list[tuple[int, int, float]]:
    """What the old vocabulary reads these new tokens as: (new, old, share) for each part."""
    said, found = forms(new), []
    for i in wanted.tolist():
        try:
            shown = said[i].said.decode()
        except UnicodeDecodeError:  # a part of a character
            continue
        parts = old.tokenizer.encode(shown, add_special_tokens=False).ids
        known = [part for part in parts if part not in old.special_ids]
        found += [(i, part, 1 / len(known)) for part in known]
    return found


def _near(
    ours: TokenVectors, theirs: TokenVectors, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For those wanted tokens (n,) that have vectors: the old ones most like each, (n, k).

    And their shares, (n, k), each row of which is 1 in all.
    """
    new, old = _directions(ours), _directions(theirs)
    candidates = np.flatnonzero(old.any(1))
    targets = wanted[new[wanted].any(1)]
    k = min(_NEAREST, len(candidates))
    if not k:
        return targets[:0], np.zeros((0, 0), np.int64), np.zeros((0, 0))
    near, shares = [np.zeros((0, k), np.int64)], [np.zeros((0, k))]
    for start in range(0, len(targets), _AT_ONCE):
        cosine = new[targets[start : start + _AT_ONCE]] @ old[candidates].T  # (n, candidates)
        best = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        weight = np.exp(np.take_along_axis(cosine, best, 1).astype(np.float64) / _SHARPNESS)
        near.append(candidates[best])
        shares.append(weight / weight.sum(1, keepdims=True))
    return targets, np.concatenate(near), np.concatenate(shares)


def _directions(tokens: TokenVectors) -> np.ndarray:
    length = np.linalg.norm(tokens.vectors, axis=1, keepdims=True)
    return np.where(length > 0, tokens.vectors / np.maximum(length, 1e-12), 0)


def _encoder(old: Encoder, text: TextInput, mixture: _Mixture, seed: int) -> Encoder:
    changes = {"vocab_size": mixture.weights.shape[0]}
    state = dict(old.state_dict())
    state["embeddings.token.weight"] = mixture.vectors(old.embeddings.token.weight, seed)
    pad = text.special_id("pad")
    if old.config.position_offset and pad is not None:
        # RoBERTa counts positions from the padding token's number: the table follows it.
        changes["position_offset"] = pad + 1
        positions = old.state_dict()["embeddings.position.weight"][old.config.position_offset :]
        before = positions.new_zeros(pad + 1, positions.shape[1])
        state["embeddings.position.weight"] = torch.cat((before, positions))
    encoder = Encoder(old.config.model_copy(update=changes))
    encoder.load_state_dict(state)
    return encoder.eval()


def _head_state(head: nn.Module, mixture: _Mixture) -> dict[str, Tensor]:
    """A head's weights, with the output biases of the new tokens where it has some."""
    state = dict(head.state_dict())
    for name, part in head.named_modules():
        if isinstance(part, MaskedHead):
            state[f"{name}.bias" if name else "bias"] = mixture.biases(part.bias)
    return state


def _of_one_kind(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with token type 0 for the second text too: RoBERTa knows no other."""

    def without(value: object) -> object:
        if isinstance(value, dict):
            return {k: 0 if k == "type_id" else without(v) for k, v in value.items()}
        return [without(one) for one in value] if isinstance(value, list) else value

    raw = json.loads(tokenizer.to_str())
    found = Tokenizer.from_str(
        json.dumps({**raw, "post_processor": without(raw["post_processor"])})
    )
    if max(found.encode("a", "b").type_ids, default=0):
        raise UserError("the new tokenizer gives a second text token type 1: this encoder has none")
    return found
