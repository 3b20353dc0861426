"""Whether a text is anything like what was learnt: five scores of strangeness, and one threshold.

softmax      how likely it is that the likeliest label is wrong (Hendrycks & Gimpel,
             arXiv:1610.02136)
energy       minus the log of the sum of exponentials of the logits (Liu et al., arXiv:2010.03759)
mahalanobis  the distance from the nearest label's mean, in units of what rows of one label differ
             by (Lee et al., arXiv:1807.03888), the covariance shrunk after Ledoit and Wolf (2004)
neighbours   the distance from the nearest training row (Sun et al., arXiv:2204.06507)
joint        neighbours and softmax together: one knows strange texts, the other those between
             labels

Vectors are those that the head's output layer sees, brought to length 1. All is fitted without any
strange text: validation rows say how strange a row may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.tasks.promises import bound, ladder

Score = Literal["softmax", "energy", "mahalanobis", "neighbours", "joint"]
SCORES: tuple[Score, ...] = get_args(Score)
KEPT = 0.95  # of the validation rows are known
BANK = 8192  # training rows that are kept, at most
_TENSORS: dict[str, tuple[str, ...]] = {
    "softmax": (),
    "energy": (),
    "mahalanobis": ("whitening", "means"),
    "neighbours": ("bank",),
    "joint": ("bank", "scale"),
}


@dataclass(frozen=True)
class Known:
    """How strange a row is by a score, and whether that is within what validation rows were."""

    known: bool
    strangeness: float
    threshold: float
    score: Score

    @property
    def short(self) -> str:
        """Known or not, in a word."""
        return "yes" if self.known else "no"

    def columns(self) -> dict[str, Any]:
        """As plain columns."""
        return {"known": self.known, "strangeness": self.strangeness}


@dataclass(frozen=True)
class Seen:
    """What a task makes of rows: vectors (n, D), uncalibrated logits (n, C), labels (n,) int."""

    vectors: Tensor
    logits: Tensor
    labels: Tensor


def strangeness(
    score: Score, tensors: Mapping[str, Tensor], vectors: Tensor | None, logits: Tensor
) -> Tensor:
    """How strange rows are, more if larger: vectors (n, D), logits (n, C) -> (n,)."""
    z = logits.float()
    if score == "energy":
        return -z.logsumexp(-1)
    if score == "softmax":
        return _doubt(z)
    assert vectors is not None
    own = {name: tensor.to(z.device, torch.float32) for name, tensor in tensors.items()}
    x = F.normalize(vectors.float(), dim=-1)
    if score == "mahalanobis":
        white = x @ own["whitening"]  # (n, D)
        square = white.square().sum(-1, keepdim=True) - 2 * white @ own["means"].T
        return (square + own["means"].square().sum(-1)).amin(-1).clamp(min=0).sqrt()
    far = 1 - (x @ own["bank"].T).amax(-1)  # from cosine 1: the order of Euclidean distances
    if score == "neighbours":
        return far
    parts = torch.stack((far, _doubt(z)), -1)  # (n, 2)
    return ((parts - own["scale"][0]) / own["scale"][1]).sum(-1)


def _doubt(z: Tensor) -> Tensor:
    """The log of the probability that the likeliest label is wrong, (n,); never minus infinity."""
    top = z.argmax(-1, keepdim=True)
    others = z.scatter(-1, top, -torch.inf).logsumexp(-1)
    return (others - z.logsumexp(-1)).clamp(min=-50)


def learn(score: Score, train: Seen, valid: Seen) -> dict[str, Tensor]:
    """What a score needs to have beside it, from training rows (and a scale from validation)."""
    x = F.normalize(train.vectors.float(), dim=-1)
    if score == "mahalanobis":
        return _gaussian(x, train.labels)
    if score in ("softmax", "energy"):
        return {}
    found = {"bank": x.half()}
    if score == "joint":
        far = strangeness("neighbours", found, valid.vectors, valid.logits)
        parts = torch.stack((far, strangeness("softmax", {}, None, valid.logits)), -1)
        spread = parts.std(0, correction=0)
        spread = torch.where(spread > 1e-4, spread, 1.0)  # what never varies must not decide
        found["scale"] = torch.stack((parts.mean(0), spread))  # (2, 2)
    return found


def fit(train: Seen, valid: Seen, score: Score) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A score with its threshold, as data and as tensors.

    The threshold is what `KEPT` of the validation rows stay within; conformally, so that as many
    rows like them will. Where they are too few for that, it is the strangest of them.
    """
    tensors = learn(score, train, valid)
    strange = strangeness(score, tensors, valid.vectors, valid.logits).double().numpy()
    n = len(strange)
    kept = KEPT if n >= KEPT / (1 - KEPT) else n / (n + 1)
    record = {
        "score": score,
        "threshold": bound(ladder(strange), n, kept),
        "kept": round(kept, 4),
        "rows": n,
        "learnt": len(train.labels),
    }
    return record, tensors


def judge(
    record: Mapping[str, Any], tensors: Mapping[str, Tensor], vectors: Tensor | None, logits: Tensor
) -> list[Known]:
    """Of each row whether it is known, by what `fit` found."""
    limit, score = record["threshold"], record["score"]
    values = strangeness(score, tensors, vectors, logits).tolist()
    return [Known(value <= limit, value, limit, score) for value in values]


def needs_vectors(record: Mapping[str, Any] | None) -> bool:
    """Whether the score of a record looks at vectors."""
    return record is not None and bool(_TENSORS[record["score"]])


def fault(record: Mapping[str, Any] | None, tensors: Mapping[str, Tensor], width: int) -> str:
    """What is wrong with tensors that were read beside a record; empty if nothing is."""
    if record is not None and record.get("score") not in _TENSORS:
        return f"its score {record.get('score')!r} is none of {', '.join(SCORES)}"
    wanted = _TENSORS[record["score"]] if record else ()
    if set(tensors) != set(wanted):
        return f"it holds {sorted(tensors)} where {sorted(wanted)} are needed"
    shapes = {"whitening": (width, width), "scale": (2, 2)}
    for name, tensor in tensors.items():
        shape = shapes.get(name, (len(tensor), width))
        if tuple(tensor.shape) != shape or not torch.isfinite(tensor.float()).all():
            return f"{name} is of shape {tuple(tensor.shape)}, or not finite"
    return ""


def spread_over(own: np.ndarray, most: int = BANK) -> np.ndarray:
    """The numbers of at most so many rows, whose labels are `own` (n,), of each about as many."""
    if len(own) <= most:
        return np.arange(len(own))
    order = np.random.default_rng(0).permutation(len(own))
    turn = np.zeros(len(own), dtype=int)  # which of its label's rows each is, in that order
    for label in np.unique(own):
        mine = order[own[order] == label]
        turn[mine] = np.arange(len(mine))
    return np.sort(order[np.argsort(turn[order], kind="stable")][:most])


def _gaussian(x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """A mean for each label, and what makes the rows' covariance about them the unit matrix."""
    from sklearn.covariance import ledoit_wolf

    names, own = torch.unique(labels, return_inverse=True)
    count = torch.bincount(own, minlength=len(names)).unsqueeze(-1)
    means = torch.zeros(len(names), x.shape[1]).index_add(0, own, x) / count  # (C, D)
    covariance, _ = ledoit_wolf((x - means[own]).double().numpy())
    values, axes = np.linalg.eigh(covariance)
    values = np.maximum(values, max(values.max(), 1e-12) * 1e-6)  # directions nobody varies in
    whitening = torch.from_numpy(axes / np.sqrt(values)).float()  # (D, D)
    return {"whitening": whitening, "means": means @ whitening}
