"""`detect`: which tokens were replaced (ELECTRA, Clark et al., arXiv:2003.10555)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from unmask.batch import Batch, Example, Segment
from unmask.encoder import DetectHead, Encoder, Hidden
from unmask.encoder.generator import sample
from unmask.inputs.encoded import Encoded
from unmask.tasks.base import Answer, Draw, Outputs, Row, Task
from unmask.tasks.masking import MaskingOptions, Share, choose
from unmask.tasks.tally import Tally

_BINS = 512  # of the probability, when rows are resampled


class DetectOptions(MaskingOptions):
    """How much the generator replaces, how large it is, and how much detecting counts."""

    kind: Literal["detect"] = "detect"
    rate: Share | tuple[Share, Share] = Field(
        0.15,
        description="share of tokens that the generator guesses; [start, end] moves from one to "
        "the other over the run",
    )
    generator: float = Field(
        0.25, gt=0, le=1, description="the generator's width, as a share of the encoder's heads"
    )
    detector_weight: float = Field(
        50.0, gt=0, description="of the detector's loss; the generator's counts once"
    )


@dataclass(frozen=True)
class Verdict:
    """One token as the encoder read it, and the probability that it was replaced."""

    token: str
    probability: float
    replaced: bool | None = None  # where the truth is known
    guessed: bool | None = None  # of a hidden token: the generator's best guess was right


@dataclass(frozen=True)
class DetectAnswer(Answer):
    """A verdict on each token that is not special."""

    draw: ClassVar[str] = "heat"

    verdicts: tuple[Verdict, ...]

    @property
    def short(self) -> str:
        """The tokens that were rather replaced than not."""
        return " ".join(v.token for v in self.verdicts if v.probability > 0.5)

    def columns(self) -> dict[str, Any]:
        """The suspicious tokens, and every token with its probability."""
        pairs = [[v.token, v.probability] for v in self.verdicts]
        return {"prediction": self.short, "replaced": pairs, **super().columns()}


class Detect(Task[DetectOptions, DetectAnswer]):
    """A generator fills hidden tokens with what could stand there; the encoder finds them.

    The encoder learns from every token, not only from the hidden ones. A sample that happens to
    be the original counts as original.
    """

    kind = "detect"
    Options = DetectOptions
    headline = "roc_auc"
    undefined: ClassVar = {
        "roc_auc": "no token was replaced, or all were: there is nothing to tell apart",
        "generator_accuracy": "no token was hidden",
    }

    @classmethod
    def study(cls, name: str, options: DetectOptions, rows: Iterable[Row]) -> dict[str, Any]:
        """The generator's share: a fact, since the weights of a head fit no other."""
        return {"generator": options.generator}

    def examples(self, row: Row, draw: Draw) -> Iterator[Example]:
        if not draw.truth:
            encoded = self.encode(row)
            yield Example((encoded.sequence(),), (np.flatnonzero(~encoded.special),))
            return
        texts = self.written(row)
        for part in self.windows(row, texts, draw):
            yield self._hide(part, choose(part, texts, self.options, draw), draw.rng)

    def _hide(self, encoded: Encoded, hidden: np.ndarray, rng: np.random.Generator) -> Example:
        judged = np.flatnonzero(~encoded.special)
        ids = encoded.ids.copy()
        ids[hidden] = self.text.mask_id
        truth = {
            "hidden": np.isin(judged, hidden),  # (judged,) bool
            "token": encoded.ids[hidden],  # (hidden,)
            "uniform": rng.random(len(hidden), dtype=np.float32),  # (hidden,): to sample by
            "weight": np.full(len(hidden), len(judged) / len(hidden), dtype=np.float32),
        }
        sequence = replace(encoded.sequence(), segments=(Segment(ids, encoded.kinds),))
        return Example((sequence,), (judged,), truth)

    def build(self, encoder: Encoder) -> nn.Module:
        return DetectHead(encoder, self.facts["generator"])

    def prepare(self, batch: Batch, head: nn.Module) -> Batch:
        """The hidden tokens filled by the generator, with its loss and what it replaced.

        Without truth, as in prediction, the batch stays as it is.
        """
        if "hidden" not in batch.truth:
            return batch
        assert isinstance(head, DetectHead)
        hidden, token = batch.truth["hidden"], batch.truth["token"]  # (N,), (M,)
        places = batch.wanted[hidden]  # (M,): flat indices into the grid
        masked = replace(batch, wanted=places, wanted_owner=batch.wanted_owner[hidden])
        logits = head.generate(masked).float()  # (M, V)
        filled = sample(logits.detach(), batch.truth["uniform"])  # (M,)
        replaced = torch.zeros_like(hidden)
        replaced[hidden] = filled != token
        truth = {
            **batch.truth,
            "replaced": replaced,  # (N,) bool
            "generator_loss": F.cross_entropy(logits, token, reduction="none"),  # (M,)
            "guessed": logits.argmax(-1) == token,  # (M,) bool
        }
        return replace(_with_ids(batch, places, filled), truth=truth)

    def outputs(self, head: nn.Module, hidden: Hidden, batch: Batch) -> Outputs:
        return {"logits": head(hidden.wanted, batch)}  # (N,)

    def targets(self, batch: Batch) -> int:
        return len(batch.truth["hidden"])

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The detector's loss over all tokens, and the generator's over the hidden ones.

        ELECTRA adds the mean of each. The loop divides both by the number of all tokens, so each
        hidden token counts for as many as there are to a hidden one in its sequence: 1 / rate.
        """
        logits, replaced = outputs["logits"].float(), batch.truth["replaced"].float()
        detector = F.binary_cross_entropy_with_logits(logits, replaced, reduction="sum")
        generator = (batch.truth["generator_loss"] * batch.truth["weight"]).sum()
        return self.options.detector_weight * detector + generator

    def answers(
        self, outputs: Outputs, batch: Batch, examples: Sequence[Example]
    ) -> list[DetectAnswer]:
        ids = _ids(batch)[batch.wanted].tolist()
        chances = torch.sigmoid(outputs["logits"].float()).tolist()
        verdicts = [
            Verdict(self.text.tokenizer.id_to_token(i) or "", p)
            for i, p in zip(ids, chances, strict=True)
        ]
        if "replaced" in batch.truth:
            for i, replaced in enumerate(batch.truth["replaced"].tolist()):
                verdicts[i] = replace(verdicts[i], replaced=replaced)
            hidden = batch.truth["hidden"].nonzero()[:, 0].tolist()
            for i, guessed in zip(hidden, batch.truth["guessed"].tolist(), strict=True):
                verdicts[i] = replace(verdicts[i], guessed=guessed)
        result, start = [], 0
        for example in examples:
            (sequence,), (wanted,) = example.sequences, example.wanted
            own = tuple(verdicts[start : start + len(wanted)])
            start += len(wanted)
            result.append(
                DetectAnswer(tokens=sequence.length, dropped=sequence.dropped, verdicts=own)
            )
        return result

    def score(self, answers: Sequence[DetectAnswer], rows: Sequence[Row]) -> dict[str, float]:
        """The area under the ROC curve (scikit-learn), and how often the generator was right.

        The area is the chance that a replaced token looks more suspicious than an original one: it
        does not depend on how many were replaced.
        """
        from sklearn.metrics import roc_auc_score

        found = self.tally(answers, rows).total()
        if np.isfinite(found["roc_auc"]):
            verdicts = [verdict for answer in answers for verdict in answer.verdicts]
            truth = [bool(verdict.replaced) for verdict in verdicts]
            found["roc_auc"] = float(roc_auc_score(truth, [v.probability for v in verdicts]))
        return found

    def tally(self, answers: Sequence[DetectAnswer], rows: Sequence[Row]) -> Tally:
        """What `score` gives, its area by bins of probability, which is right to some 1e-5.

        Columns: the loss, the tokens, the generator's hits and its guesses; then for each bin the
        original tokens, and for each bin the replaced ones.
        """
        from scipy.sparse import csr_array

        verdicts = [(i, v) for i, answer in enumerate(answers) for v in answer.verdicts]
        owner = np.array([i for i, _ in verdicts])
        p = np.array([v.probability for _, v in verdicts])
        replaced = np.array([bool(v.replaced) for _, v in verdicts])
        guessed = np.array([v.guessed is not None for _, v in verdicts])
        hit = np.array([bool(v.guessed) for _, v in verdicts])
        losses = np.array([_loss(v) for _, v in verdicts])
        edges = np.unique(np.quantile(p, np.linspace(0, 1, _BINS)))
        B = len(edges)
        place = 4 + replaced * B + edges.searchsorted(p, side="right") - 1
        columns = [(0, losses), (1, np.ones(len(p))), (2, hit), (3, guessed)]
        counts = csr_array(
            (
                np.concatenate([*(values for _, values in columns), np.ones(len(p))]),
                (
                    np.tile(owner, 5),
                    np.concatenate([*(np.full(len(p), c) for c, _ in columns), place]),
                ),
            ),
            shape=(len(answers), 4 + 2 * B),
        )
        return Tally(counts, _scores)

    def surprise(self, answer: DetectAnswer, row: Row) -> float:
        """The detector's mean loss over its tokens."""
        return float(np.mean([_loss(verdict) for verdict in answer.verdicts]))

    def truth(self, row: Row) -> str:
        return " | ".join(self.texts(row))

    def explain_target(self, outputs: Outputs, answer: DetectAnswer) -> Tensor:
        """The log-odds of having been replaced, summed over tokens."""
        return outputs["logits"].float().sum()


def _scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Scores from the sums of a tally, (..., 4 + 2 B)."""
    original, replaced = np.split(sums[..., 4:], 2, axis=-1)  # (..., B) each
    below = original.cumsum(-1) - original / 2  # a token of the same bin counts half
    pairs = original.sum(-1) * replaced.sum(-1)
    with np.errstate(invalid="ignore"):  # 0 / 0: there is nothing to tell apart
        return {
            "roc_auc": (replaced * below).sum(-1) / pairs,
            "loss": sums[..., 0] / sums[..., 1],
            "generator_accuracy": sums[..., 2] / sums[..., 3],
        }


def _loss(verdict: Verdict) -> float:
    p = verdict.probability if verdict.replaced else 1 - verdict.probability
    return -math.log(max(p, 1e-12))


def _ids(batch: Batch) -> Tensor:
    """The token ids of a grid, flat: (B * T,)."""
    values, index = batch.features["text"]
    return values.new_zeros(batch.owner.numel()).index_copy(0, index, values)


def _with_ids(batch: Batch, places: Tensor, ids: Tensor) -> Batch:
    """The same batch with other token ids (M,) at these flat indices (M,)."""
    _, index = batch.features["text"]
    values = _ids(batch).index_copy(0, places, ids)[index]
    return replace(batch, features={**batch.features, "text": (values, index)})
