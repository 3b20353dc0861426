"""What each layer of an encoder knows of a property of texts, or of words."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from unmask.batch import Example
from unmask.data.rows import Rows
from unmask.encoder import Hidden
from unmask.errors import UserError
from unmask.evaluation.bootstrap import intervals
from unmask.inputs.encoded import Encoded
from unmask.model import Model
from unmask.tasks import Tally
from unmask.tasks.base import placed, said_of
from unmask.tasks.tag_rows import read_input
from unmask.tasks.words import first_pieces

FOLDS = 5
MOST_LABELS = 100
_SEED = 0x9B0B


def probe(
    model: Model,
    rows: Rows,
    text: str,
    label: str,
    progress: Callable[[int], None] | None = None,
    done: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """How well a linear probe tells a label from each layer (Alain & Bengio, arXiv:1610.01644).

    Layer 0 is the embeddings. A text's vector is the mean over its tokens; where a row has a list
    of words and of labels, it is each word's first piece. Accuracy is of rows that the probe did
    not see, in five folds, with a 95 % interval over rows; beside it stand the share of the most
    frequent label, and the accuracy of a probe of the same size on a control (Hewitt & Liang,
    arXiv:1909.03368): each different text, or word, has a label drawn at random. What is much above
    both is there in the layer, and not only in what the probe can learn by heart.
    """
    examples, labels, types, owner = _read(model, rows, text, label)
    states = _states(model, examples, progress)  # (n, L + 1, D)
    names, truth = np.unique(labels, return_inverse=True)
    counts = Counter(labels)
    _check(names, counts, label)
    majority = max(counts.values()) / len(labels)
    control = _control(types, truth)
    layers = []
    for number in range(states.shape[1]):
        hits, by_chance = (_hits(states[:, number], goal, owner) for goal in (truth, control))
        own = {"layer": number, "accuracy": float(hits.mean()), "control": float(by_chance.mean())}
        own["selectivity"] = own["accuracy"] - own["control"]
        if (found := _interval(hits, owner)) is not None:
            own["low"], own["high"] = found
        layers.append(own)
        if done:
            done(1)
    return {
        "label": label,
        "text": text,
        "of": "words" if len(labels) > len(examples) else "texts",
        "rows": len(rows),
        "examples": len(labels),
        "labels": len(names),
        "majority": majority,
        "best": max(layers, key=lambda one: one["accuracy"])["layer"],
        "layers": layers,
    }


def _read(
    model: Model, rows: Rows, text: str, label: str
) -> tuple[list[Example], np.ndarray, list[str], np.ndarray]:
    """Examples; and of each text or word its label, what it is, and the number of its row."""
    examples: list[Example] = []
    labels: list[str] = []
    types: list[str] = []
    owner: list[int] = []
    for where, row in placed(rows, "data"):
        with said_of(where):
            source, value = read_input(row.get(text), text), row.get(label)
            encoded = model.tokenize(source.text)
            if source.words is None:
                if value is None or isinstance(value, list | dict):
                    raise UserError(f"column {label!r} holds {value!r} and no single label")
                inside = np.flatnonzero(~encoded.special)
                wanted = inside if len(inside) else np.arange(len(encoded.ids))
                own, said = [str(value)], [source.text]
            else:
                wanted, own, said = _words(encoded, source.text, source.words, value, label)
        if len(wanted):
            examples.append(Example((encoded.sequence(),), (wanted,), notes=len(own)))
            labels += own
            types += said
            owner += [len(examples) - 1] * len(own)
    if len(examples) < 2 * FOLDS:
        raise UserError(f"a probe needs {2 * FOLDS} rows at least; here are {len(examples)}")
    return examples, np.array(labels), types, np.array(owner)


def _words(
    encoded: Encoded, text: str, words: np.ndarray, value: object, label: str
) -> tuple[np.ndarray, list[str], list[str]]:
    if not isinstance(value, list | tuple) or len(value) != len(words):
        raise UserError(
            f"column {label!r} needs one label for each of the row's {len(words)} words"
        )
    first = first_pieces(text, words, encoded)
    read = np.flatnonzero(first >= 0)
    said = [text[slice(*words[i])] for i in read]
    return first[read], [str(value[i]) for i in read], said


def _states(
    model: Model, examples: Sequence[Example], progress: Callable[[int], None] | None
) -> np.ndarray:
    """Every layer's vector of each text or word: (n, L + 1, D)."""

    def keep(own: Sequence[Example]) -> list[np.ndarray]:
        batch = model.grid(own)
        hidden: Hidden = model.encoder.encode(model.encoder.embed(batch), batch, layers=True)
        table = torch.stack([batch.gather(x) for x in hidden.layers], dim=1).float().cpu().numpy()
        parts = np.split(table, np.cumsum([len(e.wanted[0]) for e in own])[:-1])
        return [
            p if e.notes == len(p) else p.mean(0)[None] for e, p in zip(own, parts, strict=True)
        ]

    return np.concatenate(list(model.run(examples, keep, progress)))


def _check(names: np.ndarray, counts: Counter[str], label: str) -> None:
    if len(names) < 2:
        raise UserError(
            f"column {label!r} holds {names[0]!r} alone: there is nothing to tell apart"
        )
    if len(names) > MOST_LABELS:
        raise UserError(
            f"column {label!r} holds {len(names)} different labels; a probe tells at most "
            f"{MOST_LABELS} apart: name a column of fewer, or put numbers into classes"
        )
    rare = min(counts, key=counts.__getitem__)
    if counts[rare] < FOLDS:
        raise UserError(
            f"column {label!r}: {rare!r} occurs {counts[rare]} times, and each label must at least "
            f"{FOLDS} times; leave its rows out, or give more"
        )


def _control(types: Sequence[str], truth: np.ndarray) -> np.ndarray:
    """A label for each different text or word, drawn as often as the true ones are: (n,)."""
    rng = np.random.default_rng(_SEED)
    drawn = {one: int(rng.choice(truth)) for one in dict.fromkeys(types)}
    return np.array([drawn[one] for one in types])


def _hits(x: np.ndarray, truth: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Which of the labels a probe tells right that was fitted on other rows: (n,) bool."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fold = np.random.default_rng(_SEED).permutation(owner.max() + 1)[owner] % FOLDS
    hits = np.zeros(len(truth), dtype=bool)
    for held in range(FOLDS):
        known = fold != held
        if len(np.unique(truth[known])) < 2:
            hits[~known] = truth[~known] == truth[known][0]
            continue
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted.fit(x[known], truth[known])
        hits[~known] = fitted.predict(x[~known]) == truth[~known]
    return hits


def _interval(hits: np.ndarray, owner: np.ndarray) -> tuple[float, float] | None:
    """The 95 % interval of the accuracy, whole rows drawn."""
    counts = np.stack((hits, np.ones(len(hits))), axis=1)
    tally = Tally(counts, lambda sums: {"accuracy": sums[..., 0] / sums[..., 1]})
    found = intervals(tally, owner).get("accuracy")
    return None if found is None else found[:2]
