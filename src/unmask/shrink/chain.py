"""A chain of steps from a bundle to a smaller one, each of them measured."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from unmask import bundle, files
from unmask.errors import UserError
from unmask.evaluation.fitting import calibrate
from unmask.evaluation.pairs import Held, Scored
from unmask.interop import resolve
from unmask.machine.threads import available_cpus, use_available_cpus
from unmask.model import Model
from unmask.runtime.stored import FORMS, load
from unmask.shrink import measure
from unmask.shrink.card import shrunk_card
from unmask.shrink.exits import TIMED, can_leave, leave_early
from unmask.shrink.material import Material, material
from unmask.shrink.recover import recover
from unmask.shrink.steps import Step, changed, parse
from unmask.shrink.vocabulary import trim
from unmask.training.loop import evaluate
from unmask.tuning.tune import BASE, tune

log = logging.getLogger("unmask")

RECORD = "shrink.json"
_TEXTS, _CALIBRATION = 512, 300  # that speed is measured on, and int8 is made by


@dataclass
class Chain:
    """A model on its way, and what it is compared with."""

    original: Model
    model: Model
    material: Material
    teachers: list[Model]
    held: dict[str, Held]
    before: dict[str, Scored]
    sample: list[str]
    half: bool = False  # whether weights are to be stored in bf16
    forms: Path | None = None  # what `unmask tune` kept
    compiled: Model | None = None  # the model as it runs then
    figures: list[dict[str, Any]] = field(default_factory=list)

    def copy(self) -> Chain:
        """The same moment, to try steps from; models are never changed in place."""
        return replace(self, teachers=[*self.teachers], figures=[*self.figures])

    def take(self, step: Step, sets: Sequence[str], folder: Path) -> dict[str, Any]:
        """Do a step and measure what came of it."""
        log.info("step %s", step)
        start = time.perf_counter()
        told: dict[str, Any] = {}
        if step.name == "recover":
            with tempfile.TemporaryDirectory(prefix="recover.", dir=folder) as work:
                given = (self.teachers, self.material, sets, Path(work), step.value or None)
                self.model = recover(self.model, *given)
        elif step.name == "int8":
            self._compile(folder / "compiled")
        elif step.name == "exits":
            told["exits"] = self._leave_early(step.share, folder / "exits")
        else:
            if step.name == "vocabulary":  # who teaches must read the same tokens
                self.teachers = [trim(one, self.material.spoken) for one in self.teachers]
            self.model = changed(self.model, step, self.material)
            self.half = step.name == "bf16"
            if not step.keeps:
                calibrate(self.model, self.material.valid(), self.material.train())
        seconds = time.perf_counter() - start
        self.figures.append({"step": str(step), "seconds": seconds, **self.measured(), **told})
        return self.figures[-1]

    def _compile(self, place: Path) -> None:
        """Let `unmask tune` make int8 forms; one that is not faithful is a UserError."""
        self.save(place)
        texts = dict.fromkeys(one for one in self.material.spoken() if one.strip())
        found = tune(place, list(islice(texts, _CALIBRATION)), ["int8"])
        if found["form"] == BASE:
            log.warning("int8 is no faster than torch on this machine: it was not kept")
        self.forms = place / FORMS
        self.compiled = load(place)

    def _leave_early(self, share: float, place: Path) -> dict[str, Any]:
        """Give the model early exits; what they promise and were measured to do."""
        self.save(place)
        contract = leave_early(self.model, self.material, share, place)
        self.forms, self.compiled = place / FORMS, load(place)
        return contract

    def save(self, path: Path, **more: Any) -> None:
        """Write the model as a bundle, its weights as they are to be stored."""
        state = self.model.state_dict()
        half = {name: t.bfloat16() for name, t in state.items()} if self.half else None
        run = self.material.run
        bundle.save(self.model, path, recipe=run.dump() if run else None, weights=half, **more)

    @property
    def served(self) -> Model:
        """The model as it will run."""
        return self.compiled or self.model

    def measured(self) -> dict[str, Any]:
        """Size, speed and scores of the model as it is."""
        model = self.served
        found: dict[str, Any] = {
            "form": model.form_name,
            "bytes": measure.size(self.model, self.half, self.forms),
            "weights": sum(p.numel() for p in self.model.parameters()),
        }
        if model.exits:  # vectors are made of all layers
            (name,) = model.exits
            ours, theirs = (measure.answers(one, name) for one in (model, self.original))
            found |= measure.speed(ours, theirs, list(self.held[name].rows[:TIMED]))
        elif self.sample:
            ours, theirs = (measure.vectors(one) for one in (model, self.original))
            found |= measure.speed(ours, theirs, self.sample)
        own = measure.scores(model, self.held)
        found["scores"] = measure.changes(model, self.held, own, self.before)
        return found


def opened(
    source: str,
    recipe: Path | None = None,
    texts: Sequence[Path] = (),
    teachers: Sequence[str] = (),
    needed: bool = True,
    split: str = "test",
) -> Chain:
    """A chain before its first step, whose first figures are the original's own."""
    use_available_cpus()
    model = load(source, form=False)
    found = material(source, model, recipe, texts, needed)
    held = found.held(split)
    chain = Chain(
        original=model,
        model=model,
        material=found,
        teachers=[load(one, form=False) for one in teachers] or [model],
        held=held,
        before=measure.scores(model, held),
        sample=found.sample(_TEXTS),
    )
    chain.figures.append({"step": "original", "seconds": 0.0, **chain.measured()})
    return chain


def shrink(
    source: str,
    out: Path,
    steps: Sequence[str],
    recipe: Path | None = None,
    texts: Sequence[Path] = (),
    teachers: Sequence[str] = (),
    sets: Sequence[str] = (),
) -> dict[str, Any]:
    """Take a bundle through steps, in their order, into a new bundle at `out`; plain data.

    The original stays as it is; `out` must not be there, and is written whole or not at all. What
    was done and what it cost is in the new bundle's `shrink.json` and README.md. `teachers` are
    those of `recover` (the original unless said), and `sets` are key=value of its recipe.
    """
    chosen = parse(steps)
    check_room(out)
    needed = any(step.name != "bf16" for step in chosen)
    chain = opened(source, recipe, texts, teachers, needed)
    if any(step.name == "exits" for step in chosen):
        can_leave(chain.model, chain.material)
    with working_folder(out) as folder:
        for step in chosen:
            chain.take(step, sets, Path(folder))
        return write(chain, source, out, chosen, texts, teachers, sets)


def check_room(out: Path) -> None:
    """Refuse a place where something stands."""
    if out.exists():
        raise UserError(f"{out} is there already: choose another name, or remove it")


def working_folder(out: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder beside `out` for what is only needed on the way."""
    with files.told_of_disk(out):
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.absolute().parent)


def write(
    chain: Chain,
    source: str,
    out: Path,
    steps: Sequence[Step],
    texts: Sequence[Path] = (),
    teachers: Sequence[str] = (),
    sets: Sequence[str] = (),
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the bundle of a chain with its record, scores and card; the record comes back."""
    folder = resolve(source)
    known = bundle.is_bundle(folder)
    record = {
        "original": source,
        "sha256": files.sha256(folder / bundle.MANIFEST) if known else None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "steps": [str(step) for step in steps],
        "texts": [str(path) for path in texts],
        "teachers": list(teachers),
        "set": list(sets),
        "form": chain.served.form_name,
        "stored": "bf16" if chain.half else "fp32",
        "cores": available_cpus(),
        "figures": chain.figures,
        "before": files.read_json(folder / RECORD) if (folder / RECORD).exists() else None,
        **(more or {}),
    }
    found = []
    for split in ("valid", "test"):
        splits = chain.material.splits.items()
        rows = {name: own for name, both in splits if (own := getattr(both, split)) is not None}
        found += evaluate(chain.served, rows, split, resample=True) if rows else []
    own_card = folder / "README.md"
    card = own_card.read_text(encoding="utf-8") if known and own_card.is_file() else ""
    check_room(out)  # it may have come while we worked

    def beside(place: Path) -> None:
        files.write_json(place / RECORD, record)
        if chain.forms is not None:
            shutil.copytree(chain.forms, place / FORMS)

    chain.save(
        out,
        scores=[score.record() for score in found],
        card=shrunk_card(record, [score.record() for score in found], card),
        beside=beside,
    )
    return record
