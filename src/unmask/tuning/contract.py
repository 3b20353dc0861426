"""The fidelity contract: how far a form of a model is from the original, in numbers.

The original is the same weights in torch and fp32. A form outside a user's tolerance is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unmask.batch import Example
from unmask.data.rows import Rows
from unmask.errors import UserError
from unmask.evaluation.bootstrap import paired
from unmask.evaluation.choosing import calibration_tally
from unmask.evaluation.fitting import calibrate
from unmask.evaluation.pairs import Held, scored
from unmask.evaluation.scores import judge, laid_out
from unmask.jobs import unseen
from unmask.model import Model
from unmask.tasks import Row, Task

ALONE = 64  # texts that are also computed alone


class Tolerance(BaseModel):
    """What a form may differ by; the defaults let a good int8 pass.

    A score's change is judged by its value on the given rows; its interval stands in the contract.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cosine: float = Field(0.99, description="least mean cosine of texts' vectors to the original's")
    min_cosine: float = Field(0.9, description="least cosine of any text")
    points: float = Field(0.5, description="most that a task's score may lose, in hundredths")
    ece: float = Field(0.02, description="most that a task's calibration error may rise, refitted")
    alone: float = Field(
        0.9999, description="least cosine of a text alone to the same text among others"
    )

    @classmethod
    def read(cls, given: str | None) -> Tolerance:
        """From `cosine=0.999,points=0.2`; a UserError says what can be given."""
        try:
            pairs = [part.split("=", 1) for part in (given or "").split(",") if part.strip()]
            return cls.model_validate({key.strip(): float(value) for key, value in pairs})
        except (ValueError, ValidationError):
            known = ", ".join(cls.model_fields)
            raise UserError(
                f"tolerance {given!r}: write KEY=NUMBER,… with keys of {known}"
            ) from None


def measure(
    model: Model, form: Model, texts: Sequence[str], rows: Mapping[str, Rows]
) -> dict[str, Any]:
    """The contract of `form` against `model`, the same weights in torch and fp32, as plain data.

    `texts` are those to be read, `rows` labelled ones of tasks. Tasks of the form are calibrated
    anew by them; what they found is in `calibrations`.
    """
    found: dict[str, Any] = {"texts": len(texts), **_vectors(model, form, texts)}
    found["tasks"] = {}
    found["calibrations"] = {}
    for name, own in rows.items():
        found["tasks"][name] = _task(model, form, name, own)
        if form.task(name).calibration:
            found["calibrations"][name] = dict(form.task(name).calibration)
    for name, task in model.tasks.items():
        given = not task.many_passes and len(task.options.inputs) == 1
        if name not in found["tasks"] and given:
            found["tasks"][name] = {"logits": _outputs(model, form, task, texts)}
    return found


def refusals(contract: Mapping[str, Any], tolerance: Tolerance) -> list[str]:
    """Why a form is outside a tolerance, a line each; none where it is within."""
    found: list[str] = []

    def check(what: str, value: float, least: float) -> None:
        if not value >= least:  # so that NaN is refused
            found.append(f"{what} {value:.5f} is below {least:g}")

    check("mean cosine", contract["cosine"]["mean"], tolerance.cosine)
    check("least cosine", contract["cosine"]["min"], tolerance.min_cosine)
    check(
        "cosine of a text alone to itself in a batch", contract["alone"]["cosine"], tolerance.alone
    )
    for name, task in contract["tasks"].items():
        if task.get("change") is not None and not -100 * task["change"] <= tolerance.points:
            lost = -100 * task["change"]
            found.append(
                f"task {name} loses {lost:.2f} points of {task['metric']}, more than "
                f"{tolerance.points:g}"
            )
        ece = task.get("ece")
        if ece is not None and not ece["form"] - ece["fp32"] <= tolerance.ece:
            found.append(
                f"task {name}: its calibration error rises from {ece['fp32']:.4f} to "
                f"{ece['form']:.4f}, by more than {tolerance.ece:g}"
            )
    return found


def _vectors(model: Model, form: Model, texts: Sequence[str]) -> dict[str, Any]:
    """Cosines to the original, and of texts alone to themselves among others."""
    ours, theirs = (F.normalize(one.encode(texts).double(), dim=-1) for one in (form, model))
    cosine = (ours * theirs).sum(1)  # (n,)
    some = np.unique(np.linspace(0, len(texts) - 1, min(ALONE, len(texts))).astype(int)).tolist()
    alone = torch.cat([form.encode(texts[i]) for i in some])
    alone = F.normalize(alone.double(), dim=-1)
    among = ours[some]
    return {
        "cosine": {"mean": float(cosine.mean()), "min": float(cosine.min())},
        "alone": {
            "texts": len(some),
            "cosine": float((alone * among).sum(1).min()),
            "largest_difference": float((alone - among).abs().max()),
        },
    }


def _task(model: Model, form: Model, name: str, rows: Rows) -> dict[str, Any]:
    """Of a task with labelled rows: outputs, score and calibration, both calibrated by the rows.

    A calibration is fitted to every other row, and its error measured on those between.
    """
    task = model.task(name)
    found: dict[str, Any] = {"rows": len(rows), "metric": task.headline}
    held = Held("valid", rows, 0)
    if task.many_passes:  # there is nothing to calibrate
        before, after = scored(model, name, held), scored(form, name, held)
    else:
        some = [rows[i] for i in range(min(len(rows), 256))]
        found["logits"] = _outputs(model, form, task, some)
        errors: dict[str, float] = {}
        for side, one in (("fp32", model), ("form", form)):
            with _own_calibration(one.task(name)):
                error = _ece(one, name, rows)
            if error is not None:
                errors[side] = error
        if len(errors) == 2:
            found["ece"] = errors
        calibrate(form, {name: rows}, {})
        with _own_calibration(task):
            calibrate(model, {name: rows}, {})
            before, after = scored(model, name, held), scored(form, name, held)
    change = after.value - before.value
    chance = paired((after.samples - before.samples)[None])
    low, high, p, _ = chance or (None, None, None, None)
    finite = np.isfinite(change)
    return {
        **found,
        "fp32": before.value if finite else None,
        "form": after.value if finite else None,
        "change": change if finite else None,
        "low": low,
        "high": high,
        "p": p,
    }


def _ece(model: Model, name: str, rows: Rows) -> float | None:
    """The calibration error on odd rows, calibrated on even ones; None without choices."""
    task = model.task(name)
    odd, even = (rows.pick(np.arange(start, len(rows), 2)) for start in (1, 0))
    if not len(odd):
        return None
    calibrate(model, {name: even}, {})
    (judged,) = judge(model, [(task, odd)])
    answers, own, _ = laid_out(judged)
    choices = task.choices(answers, own) if answers else None
    return None if choices is None else float(calibration_tally(choices).total()["ece"])


def _outputs(
    model: Model, form: Model, task: Task[Any, Any], rows: Sequence[str | Row]
) -> dict[str, float]:
    """How far a head's outputs are from the original's."""
    largest, total, count = 0.0, 0.0, 0

    def compare(own: Sequence[Example]) -> list[None]:
        nonlocal largest, total, count
        with form.autocast():
            ours, _ = form(form.task(task.name), form.grid(own))
        theirs, _ = model(task, model.grid(own))
        for key, value in theirs.items():
            apart = (ours[key].float() - value.float()).abs()
            if apart.numel():
                largest = max(largest, float(apart.max()))
                total, count = total + float(apart.sum()), count + apart.numel()
        return [None] * len(own)

    examples = [unseen(task, row, i) for i, row in enumerate(rows)]
    list(model.run(examples, compare, batch_tokens=1024))
    return {"mean": total / max(count, 1), "max": largest}


@contextmanager
def _own_calibration(task: Task[Any, Any]) -> Iterator[None]:
    """What is fitted to a task meanwhile is forgotten."""
    before = dict(task.calibration), task.tensors
    try:
        yield
    finally:
        task.calibration, task.tensors = before
