"""Learning again what was lost, from teachers: one run of the one training loop."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unmask import bundle, files, recipe
from unmask.data.sources import Rows
from unmask.errors import UserError
from unmask.model import Model
from unmask.recipe.train import BUDGETS
from unmask.shrink.material import Material
from unmask.tasks import Task
from unmask.tasks.classify import Classify
from unmask.training.run import train

log = logging.getLogger("unmask")

# What the kind `distil` does not go with: it teaches the trunk itself, gives no distributions for
# R-Drop to compare, and looks into layers whose weights are whole. It helps the tasks that are
# learnt beside it, so nothing is to be settled between them.
_WITH_DISTIL = {
    "frozen": False,
    "conflicts": None,
    "pull": "tokens",
    "r_drop": 0.0,
    "parallel": "replicate",
}


def recover(
    model: Model,
    teachers: Sequence[Model],
    material: Material,
    changes: Sequence[str],
    folder: Path,
    simulate: str | None = None,
) -> Model:
    """The model after learning from its teachers, in a working folder.

    Each task with rows learns from their truth and from the first teacher that has the task, in
    equal parts; and what every teacher gives within is imitated on the given texts, or on those
    of the training rows (kind `distil`). A classifier of single texts without rows of its own
    learns what its teacher says of the given texts. `changes` are key=value of the recipe that
    comes of it. With `simulate` it learns as this precision computes.
    """
    places = []
    for number, teacher in enumerate(teachers):
        places.append(folder / f"teacher-{number}")
        bundle.save(teacher, places[-1])
    start = folder / "start"
    bundle.save(model, start)
    data = _recipe(model, teachers, places, material, folder)
    data["encoder"] = {"from": str(start)}
    data["train"]["simulate"] = simulate
    if any(change.partition("=")[0] in [f"train.{unit}" for unit in BUDGETS] for change in changes):
        data["train"] = {k: v for k, v in data["train"].items() if k not in BUDGETS}
    trained = train(recipe.read(data, changes), folder / "run").model
    tasks, heads = {}, {}
    for name, own in model.tasks.items():
        learnt = name in trained.tasks
        tasks[name] = trained.tasks[name] if learnt else own
        tasks[name].options = own.options  # without what stands in this folder
        heads[name] = (trained if learnt else model).head(name)
    return Model(trained.encoder, trained.text, tasks, heads, model.pooling)


def _recipe(
    model: Model,
    teachers: Sequence[Model],
    places: Sequence[Path],
    material: Material,
    folder: Path,
) -> dict[str, Any]:
    """What is learnt from whom, as a recipe."""
    data: dict[str, Any] = {"tasks": {}, "train": {}}
    sources: list[tuple[str, list[str]]] = []  # of texts: a path, and its columns
    seen: set[str] = set()  # several tasks may read the same
    if material.run is not None:
        whole = material.run.dump()
        data = {"tasks": {}, "mixture": whole["mixture"], "train": whole["train"]}
        data["train"] |= _WITH_DISTIL
        for name, own in material.splits.items():
            if own.train is None:
                log.warning("task %s: its training rows are gone; it is not learnt again", name)
                continue
            # What a recipe leaves open was settled by the original's shape, and stays.
            known = model.tasks[name].options.model_dump(mode="json")
            settled = {key: known[key] for key in ("head", "pooling") if key in known}
            options = {**whole["tasks"][name], **settled, "teacher": None}
            learns = type(model.tasks[name]).imitate is not Task.imitate
            teacher = _teacher_of(model.tasks[name], teachers, places) if learns else None
            if teacher is not None:
                options |= {"teacher": str(teacher), "teacher_share": 0.5}
            data["tasks"][name] = options
            same = repr((options["train"], options["input"]))
            if material.texts is None and same not in seen:
                seen.add(same)
                sources += _texts(folder / f"{name}.jsonl", own.train, model.tasks[name])
    if material.texts is not None:
        path = folder / "texts.jsonl"
        _write(path, material.texts, {"text": "text"})
        sources = [(str(path), ["text"])]
        for name in model.tasks.keys() - data["tasks"].keys():
            answered = _answered(model.tasks[name], teachers, places, material.texts, folder)
            data["tasks"] |= {name: answered} if answered else {}
    for number, (path_of, columns) in enumerate(sources):
        for which, place in enumerate(places):
            name = f"distil-{number}-{which}"
            if name in model.tasks:
                raise UserError(f"task {name} has a name that is needed here; rename it")
            data["tasks"][name] = {
                "kind": "distil",
                "train": path_of,
                "input": columns,
                "teacher": str(place),
            }
    if not data["tasks"]:
        raise UserError("there is nothing to learn again from: give --recipe, or --texts")
    return data


def _teacher_of(
    task: Task[Any, Any], teachers: Sequence[Model], places: Sequence[Path]
) -> Path | None:
    """The first teacher that has this task, by name and kind, or else one of this kind."""
    for model, place in zip(teachers, places, strict=True):
        own = model.tasks.get(task.name)
        if own is not None and own.kind == task.kind:
            return place
    for model, place in zip(teachers, places, strict=True):
        if sum(own.kind == task.kind for own in model.tasks.values()) == 1:
            return place
    return None


def _answered(
    task: Task[Any, Any],
    teachers: Sequence[Model],
    places: Sequence[Path],
    texts: Rows,
    folder: Path,
) -> dict[str, Any] | None:
    """A classifier to learn from its teacher's answers to texts alone, where that can be."""
    place = _teacher_of(task, teachers, places)
    if not isinstance(task, Classify) or len(task.options.inputs) > 1 or place is None:
        return None
    if len(task.labels) < 2 or sorted(task.labels) != task.labels:  # as no recipe has them
        return None
    teacher = teachers[places.index(place)]
    alike = [name for name, own in teacher.tasks.items() if own.kind == task.kind]
    own = [row["text"] for row in texts if isinstance(row["text"], str) and row["text"].strip()]
    answers = teacher.predict(task.name if task.name in alike else alike[0], own)
    if len({answer.short for answer in answers}) < 2:
        log.warning("task %s: its teacher says the same of all texts; its head stays", task.name)
        return None
    path = folder / f"{task.name}-answered.jsonl"
    with files.new_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        for text, answer in zip(own, answers, strict=True):
            label = list(answer.labels) if task.options.multi_label else answer.short
            row = {task.options.inputs[0]: text, task.options.label: label}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    kept = task.options.model_dump(mode="json")
    learnt: dict[str, Any] = {
        "train": str(path),
        "valid": None,
        "test": None,
        "labels": task.labels,
        "tags": {},
    }
    return {**kept, **learnt, "teacher": str(place), "teacher_share": 1.0}


def _texts(path: Path, rows: Rows, task: Task[Any, Any]) -> list[tuple[str, list[str]]]:
    """The training texts of a task as a file, so that no held-out row is among them."""
    columns = dict(zip(("text", "pair"), task.options.inputs, strict=False))
    return [(str(path), list(columns))] if _write(path, rows, columns) else []


def _write(path: Path, rows: Rows, columns: Mapping[str, str]) -> int:
    """Rows whose columns all hold text, as JSON lines; how many they are."""
    count = 0
    with files.new_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        for row in rows:
            found = {ours: row.get(theirs) for ours, theirs in columns.items()}
            if all(isinstance(value, str) and value.strip() for value in found.values()):
                file.write(json.dumps(found, ensure_ascii=False) + "\n")
                count += 1
    return count
