"""Recipes: checked, explained, staged, and saved as they were run."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from unmask.errors import UserError
from unmask.recipe import Mixture, json_schema, parse, read
from unmask.tasks import OPTIONS

MINIMAL: dict[str, Any] = {
    "encoder": {"from": "somewhere"},
    "tasks": {"mood": {"kind": "classify", "train": "a.csv"}},
}


def change(**places: Any) -> dict[str, Any]:
    """The minimal recipe with some places set; `None` removes one."""
    recipe = copy.deepcopy(MINIMAL)
    for path, value in places.items():
        *parents, last = path.split("__")
        place = recipe
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
        if value is None:
            del place[last]
    return recipe


def test_the_shortest_recipe_fills_in_the_rest_and_comes_back() -> None:
    (run,) = parse(MINIMAL, OPTIONS).values()
    assert run.train.budget == ("epochs", 3.0)
    assert run.tasks["mood"].valid == 0.1
    dumped = json.loads(json.dumps(run.dump()))
    assert parse(dumped, OPTIONS)[""].dump() == dumped


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (change(tasks__mood__lable="x"), r"`tasks.mood.lable` is unknown; did you mean `label`\?"),
        (change(tasks__mood__kind="clasify"), "must name a kind of task: 'classify', "),
        (change(tasks__mood__rate=0.3), "`tasks.mood.rate` is unknown"),
        (change(tasks__mood__train={"pth": "a"}), "did you mean `path`"),
        (change(tasks__mood__valid=1.5), "between 0 and 1, not 1.5"),
        (change(tasks__mood__input=["a", "b", "c"]), "1 column or 2"),
        (change(tasks__mood__tags={"colour": "red"}), "'language', 'domain' or 'modality'"),
        (change(tasks={}), "needs at least one"),
        (change(encoder={"from": "a", "style": "modern"}), "`style` is for a new encoder"),
        (change(tasks__mood__head={"pooling": "none"}), "pool by cls or mean"),
        (change(trian={"epochs": 1}), "did you mean `train`"),
        (change(train={"epoch": 1}), "did you mean `epochs`"),
        (change(train={"epochs": 1, "steps": 9}), "one budget at a time: epochs and steps"),
        (change(tasks__mood__weight=float("inf")), "`tasks.mood.weight`.*finite"),
        (change(train={"learning_rate": -1}), "`train.learning_rate`.*greater than 0"),
        (change(encoder={"from": "a", "shape": "mini"}), "either `from`.*or `shape`"),
        (change(encoder={}), "either `from`.*or `shape`"),
        (change(encoder={"shape": "huge"}), "'tiny', 'mini', 'small' or 'base'"),
        (change(stages={}), "give each stage a name"),
        (change(stages={"a": [1]}), "`stages.a` must hold keys"),
        (change(stages={"../../a": {}}), "'../../a' is no name"),
        (change(stages={"a": {"encoder": {"shape": "base"}}}), "stages train one encoder"),
        (change(stages={"a": {"train": {"epoch": 1}}}), "`stages.a.train.epoch` is unknown"),
    ],
)
def test_mistakes_are_one_clear_line(recipe: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        parse(recipe, OPTIONS)
    assert "\n" not in str(caught.value)


def test_task_names_are_file_names() -> None:
    recipe = copy.deepcopy(MINIMAL)
    recipe["tasks"]["../x"] = recipe["tasks"]["mood"]
    with pytest.raises(UserError, match="is no name"):
        parse(recipe, OPTIONS)


def test_a_new_budget_takes_the_place_of_the_old() -> None:
    assert read({"train": {"epochs": 3, "seed": 1}}, ["train.steps=5"])["train"] == {
        "seed": 1,
        "steps": 5,
    }


def test_a_budget_that_is_taken_away_leaves_a_new_one() -> None:
    data = read({"train": {"tokens": 1000}}, ["train.steps=2", "train.tokens=null"])
    assert data["train"] == {"steps": 2, "tokens": None}
    staged = {k: v for k, v in MINIMAL.items() if k != "train"}
    staged |= {"train": {"steps": 2}, "stages": {"a": {"train": {"tokens": None}}}}
    assert parse(staged, OPTIONS)["a"].train.budget == ("steps", 2)


def test_changes_reach_any_key() -> None:
    data = read(MINIMAL, ["train.seed=7", "tasks.mood.train=b.csv", "encoder={shape: mini}"])
    assert data["train"]["seed"] == 7
    assert data["encoder"] == {"shape": "mini"}
    (run,) = parse(data, OPTIONS).values()
    assert run.tasks["mood"].train.path == "b.csv"


@pytest.mark.parametrize(
    ("changes", "said"),
    [(["train.seed"], "write key=value"), (["encoder.from.path=1"], "holds no keys")],
)
def test_broken_changes(changes: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(MINIMAL, changes)


def test_unreadable_recipes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such recipe"):
        read(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    for content in (b"a: [", b"\xff\xfe", b"- a\n- b\n"):
        bad.write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.yaml"):
            read(bad)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Two tasks of one name would silently be one; what is merged may be overridden."""
    text = "tasks:\n  a: {kind: mlm, train: x}\n  b: &b {kind: mlm, train: y}\n"
    (tmp_path / "r.yaml").write_text(text + "  a: {kind: mlm, train: z}\n")
    with pytest.raises(UserError, match=r"'a' stands there twice(.|\n)*line 4"):
        read(tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text(text + "  c: {<<: *b, train: z}\n")
    assert read(tmp_path / "r.yaml")["tasks"]["c"] == {"kind": "mlm", "train": "z"}


@pytest.mark.parametrize("text", ["? [a, b]\n: 1\n", "{a: 1}: 2\n", "a: 2001-99-99\n"])
def test_keys_and_dates_that_are_none_are_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UserError, match=r"r\.yaml is not readable YAML"):
        read(tmp_path / "r.yaml")
    with pytest.raises(UserError, match="the value is not readable YAML"):
        read(MINIMAL, ["train.seed=2001-99-99"])


def test_a_temperature_without_a_number_for_its_powers_is_refused() -> None:
    """A thousand rows to the power of a thousand ended in a traceback, once training began."""
    with pytest.raises(UserError, match=r"`mixture.temperature`: .* greater than or equal to 0.1"):
        parse({**MINIMAL, "mixture": {"temperature": 0.001}}, OPTIONS)
    assert Mixture(sampling="temperature", temperature=0.1).shares({"a": 10**9, "b": 1})["b"] > 0


def test_stages_share_what_stands_outside_them() -> None:
    data = {
        **MINIMAL,
        "train": {"seed": 3, "epochs": 5},
        "stages": {"a": {}, "b": {"train": {"steps": 2}}},
    }
    runs = parse(data, OPTIONS)
    assert list(runs) == ["a", "b"]
    assert [run.train.seed for run in runs.values()] == [3, 3]
    assert [run.train.budget for run in runs.values()] == [("epochs", 5), ("steps", 2)]


def test_the_schema_says_in_an_editor_what_parse_says() -> None:
    validator = jsonschema.Draft202012Validator(json_schema(OPTIONS))
    validator.validate(MINIMAL)
    validator.validate(change(tasks__mood__train=["a.csv", "b.csv"]))
    for path in sorted(Path("recipes").glob("*.yaml")):
        validator.validate(read(path))
    for wrong in (
        change(tasks__mood__lable="x"),
        change(tasks__mood__train={"pth": "a"}),
        change(stages={"a": {"train": {"epoch": 1}}}),
        change(train={"learning_rate": -1}),
    ):
        assert not validator.is_valid(wrong)


@pytest.mark.parametrize("path", sorted(Path("recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_in_the_house_is_one(path: Path) -> None:
    assert parse(read(path), OPTIONS)
