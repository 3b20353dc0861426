"""The cube: its cells add up, its marks are true, and several bundles make a mean."""

from __future__ import annotations

import json
import shutil
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import unmask
from unmask.cli.output import print_cube
from unmask.data.rows import Rows
from unmask.evaluation.cube import cube_of, spelt_alike, table, trained_cells
from unmask.evaluation.page import render
from unmask.evaluation.scores import Judged, cell_of, cells, scores
from unmask.evaluation.seeds import over_seeds
from unmask.recipe import Column
from unmask.tasks.classify import Classify, ClassifyOptions, LabelAnswer

Make = Callable[..., dict[str, Any]]
TAGS = {"language": {"column": "lang"}, "domain": {"column": "domain"}}
values = st.sampled_from(["en", "de", "", " ", None])  # a blank cell is as none


def mood(**options: Any) -> Classify:
    text: Any = None  # nothing is tokenised
    return Classify("mood", ClassifyOptions(tags=TAGS, **options), text, {"labels": ["no", "yes"]})


def judged(rows: list[dict[str, Any]]) -> list[Judged]:
    """Every row's answer is yes, with 0.8; a row of kind none has no answer."""
    answer = LabelAnswer(
        tokens=3, dropped=0, labels=("yes",), probabilities={"no": 0.2, "yes": 0.8}
    )
    return [Judged(row, (answer,) if row.get("answered", True) else ()) for row in rows]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(values, values, st.sampled_from(["no", "yes"]), st.booleans()), min_size=1
    ).filter(lambda rows: any(row[3] for row in rows))
)
def test_the_cells_add_up(drawn: list[tuple[str | None, str | None, str, bool]]) -> None:
    """Each row that has answers is in one cell; the mean of cells, by rows, is the whole score."""
    rows = [dict(zip(("lang", "domain", "label", "answered"), row, strict=True)) for row in drawn]
    task = mood()
    found = cells(task, "test", judged(rows), "fp32")
    whole = next(s for s in scores(task, "test", judged(rows), "fp32") if s.metric == task.headline)
    assert sum(cell.rows for cell in found) == whole.rows == sum(row[3] for row in drawn)
    assert sum(cell.rows * (cell.value or 0) for cell in found) == pytest.approx(
        whole.rows * (whole.value or 0)
    )
    places = [tuple((cell or "").strip() or None for cell in row[:2]) for row in drawn if row[3]]
    assert {(c.language, c.domain) for c in found} == set(places)
    assert len({(c.language, c.domain, c.modality) for c in found}) == len(found)
    for tag, place in (("language", 0), ("domain", 1)):
        of_value = Counter(own[place] for own in places)
        by_cell: Counter[str | None] = Counter()
        for cell in found:
            by_cell[getattr(cell, tag)] += cell.rows
        assert by_cell == of_value
    names, body = table(cube_of(task, "test", found, None), "untagged", "all")
    assert sum(cell is not None for _, own in body for cell in own) == len(found)
    assert all(len(own) == len(names) for _, own in body)


def test_a_cell_has_an_interval_of_its_own_rows() -> None:
    rows = [{"lang": "en", "domain": "films", "label": "yes" if i % 3 else "no"} for i in range(30)]
    rows += [{"lang": "de", "domain": "films", "label": "yes"}] * 5
    german, english = cells(mood(), "test", judged(rows), "fp32", resample=True)
    assert (german.language, german.value, german.low) == ("de", 1.0, None)
    assert english.low is not None
    assert english.low < 2 / 3 < (english.high or 0)
    assert (english.rows, english.metric, english.resamples) == (30, "accuracy", 1000)


def test_words_and_missing_values_are_places_too() -> None:
    assert cell_of({"l": 3}, {"language": Column(column="l"), "domain": "films"}) == (
        "3", "films", "text",
    )  # fmt: skip
    assert cell_of({"l": None}, {"language": Column(column="l"), "modality": "speech"}) == (
        None, None, "speech",
    )  # fmt: skip


def rows_of(*places: tuple[str, str]) -> Rows:
    columns = {"lang": [a for a, _ in places], "domain": [b for _, b in places]}
    return Rows([pa.RecordBatch.from_pydict(columns)], "rows")


def test_zero_shot_is_what_no_training_row_had() -> None:
    """English was learnt and films were, but not English films."""
    trained = rows_of(("en", "tweets"), ("de", "films"), ("de", "films"))
    options = mood().options
    known = trained_cells(options, trained, options)
    assert known == {("en", "tweets", "text"): 1, ("de", "films", "text"): 2}
    tested = [
        {"lang": "en", "domain": "films", "label": "yes"},
        {"lang": "de", "domain": "films", "label": "yes"},
    ]
    cube = cube_of(mood(), "test", cells(mood(), "test", judged(tested), "fp32"), known)
    assert [(c["language"], c["trained"], c["zero_shot"]) for c in cube["cells"]] == [
        ("de", 2, False),
        ("en", 0, True),
    ]
    by_language = ClassifyOptions(tags={"language": {"column": "lang"}})
    assert trained_cells(options, trained, by_language) == {
        ("en", None, "text"): 1,
        ("de", None, "text"): 2,
    }
    word = ClassifyOptions(tags={"language": "en"})
    assert trained_cells(word, trained, by_language) == {("en", None, "text"): 3}


def test_what_cannot_be_known_is_not_guessed() -> None:
    options = mood().options
    assert trained_cells(options, None, options) is None
    assert trained_cells(None, rows_of(("en", "films")), options) is None
    untold = ClassifyOptions(tags={"language": {"column": "lang"}})
    assert trained_cells(untold, rows_of(("en", "films")), options) is None
    (cell,) = cube_of(
        mood(), "test", cells(mood(), "test", judged([{"label": "yes"}]), "fp32"), None
    )["cells"]
    assert (cell["trained"], cell["zero_shot"]) == (None, None)


def test_values_that_differ_in_case_or_space_only_are_said() -> None:
    here, there = [("en", "films", "text")], [("EN", "films", "text"), ("fr", "films ", "text")]
    assert spelt_alike({"mood": here, "topic": there}) == [
        "language: 'en' (task mood) and 'EN' (task topic) differ only in case or space, and are "
        "told apart",
        "domain: 'films' (task mood) and 'films ' (task topic) differ only in case or space, and "
        "are told apart",
    ]
    assert spelt_alike({"mood": here, "topic": here}) == []


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Bundles of one recipe and two seeds, tested on rows of which some are zero-shot."""
    folder = tmp_path_factory.mktemp("seeds")
    head = "text,label,lang,domain\n"
    words = (("good", "pos"), ("bad", "neg"), ("great", "pos"), ("dull", "neg"))
    lines = [
        f"the {domain} {i} was {word},{label},{lang},{domain}"
        for i in range(6)
        for word, label in words
        for lang, domain in (("en", "film"), ("en", "book"), ("de", "film"))
    ]
    (folder / "train.csv").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    tested = [line.replace(" was ", " is ") for line in lines[::2]]
    tested += [f"a book {i} was good,pos,de,book" for i in range(8)]  # German books are new
    tested += [f"a film {i} was bad,neg,EN,film" for i in range(2)]  # misspelt
    (folder / "test.csv").write_text(head + "\n".join(tested) + "\n", encoding="utf-8")
    recipe = {
        "encoder": {"shape": "tiny", "tokenizer": {"vocab_size": 120, "min_frequency": 1}},
        "tasks": {
            "mood": {
                "kind": "classify",
                "train": str(folder / "train.csv"),
                "test": str(folder / "test.csv"),
                "tags": TAGS,
            }
        },
        "train": {"steps": 4, "batch_tokens": 120},
    }
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    for seed in (0, 1):
        unmask.train(folder / "r.yaml", folder / str(seed), [f"train.seed={seed}"])
    return [folder / str(seed) / "bundle" for seed in (0, 1)]


def test_the_cube_of_one_bundle(seeds: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = unmask.evaluate(seeds[0])
    (cube,) = found["cube"]
    assert (cube["languages"], cube["domains"]) == (["EN", "de", "en"], ["book", "film"])
    marks = {(c["language"], c["domain"]): (c["rows"], c["zero_shot"]) for c in cube["cells"]}
    assert marks == {
        ("EN", "film"): (2, True),
        ("de", "book"): (8, True),
        ("de", "film"): (12, False),
        ("en", "book"): (12, False),
        ("en", "film"): (12, False),
    }  # and English books in capitals are absent
    assert sum("differ only in case or space" in note for note in found["notes"]) == 1
    whole = next(s for s in found["scores"] if s["split"] == "test" and not s["language"])
    assert sum(cell["rows"] for cell in cube["cells"]) == whole["rows"]
    assert json.loads(json.dumps(found)) == found
    print_cube(found["cube"])
    said = capsys.readouterr().out
    (capitals,) = [line for line in said.splitlines() if line.startswith("EN")]
    assert capitals.split()[1] == "–"
    assert capitals.rstrip().endswith("(2)*")
    assert "* zero-shot" in said
    page = render(found)
    assert page.count('class="absent"') == 2  # the cell, and the legend
    assert "NaN" not in page


def test_several_bundles_are_a_mean_with_its_spread(
    seeds: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    alone = [unmask.evaluate(bundle) for bundle in seeds]
    found = unmask.evaluate(seeds)
    assert json.loads(json.dumps(found)) == found
    assert [bundle["seed"] for bundle in found["bundles"]] == [0, 1]
    assert {score["split"] for score in found["scores"]} == {"test"}  # valid rows are each seed's
    for score in found["scores"]:
        same = [
            next(
                s["value"]
                for s in one["scores"]
                if all(s[k] == score[k] for k in ("split", "metric", "language", "domain"))
            )
            for one in alone
        ]
        assert score["values"] == same
        assert score["value"] == pytest.approx(statistics.mean(same))
        assert score["sd"] == pytest.approx(statistics.stdev(same))
        assert "low" not in score
    for cell, one, other in zip(*(o["cube"][0]["cells"] for o in (found, *alone)), strict=True):
        assert cell["values"] == [one["value"], other["value"]]
        assert (cell["rows"], cell["zero_shot"]) == (one["rows"], one["zero_shot"])
    assert "scores are means over 2 bundles" in caplog.text
    page = render(found)
    assert "Standard deviation over seeds" in page
    assert "and 1 more" in page


def test_the_command_takes_several(
    seeds: list[Path], tmp_path: Path, typed: Callable[..., Any]
) -> None:
    done = typed(tmp_path, "eval", *seeds, "--html", "cube.html")
    assert done.returncode == 0, done.stderr
    assert "score (mean ± sd of 2)" in done.stdout
    assert "mood, test: accuracy (rows)" in done.stdout
    assert 'class="cube"' in (tmp_path / "cube.html").read_text(encoding="utf-8")


def test_a_zero_shot_cell_is_so_for_every_bundle(make_found: Make) -> None:
    one, other = make_found(), make_found()
    other["cube"][0]["cells"][0] |= {"trained": 4, "zero_shot": False}
    other["cube"][0]["cells"][1] |= {"trained": None, "zero_shot": None}
    for found, value in ((one, 0.8), (other, 0.6)):
        found["cube"][0]["cells"][0]["value"] = value
    one["cube"].insert(0, {**one["cube"][0], "task": "other"})
    other["cube"].append({**other["cube"][0], "task": "other"})  # in any order
    _, cube = over_seeds([one, other], ["a doubt"])["cube"]
    assert cube["task"] == "mood"
    first, second, *_ = cube["cells"]
    assert (first["trained"], first["zero_shot"], first["value"]) == (4, False, 0.7)
    assert (second["trained"], second["zero_shot"]) == (None, None)
    without = cube["cells"][3]
    assert without["value"] is None
    assert without["reason"].startswith("for ")
    del one["cube"][1]["cells"][0], other["cube"][-1]  # of what only one could score
    (cube,) = over_seeds([one, other], [])["cube"]
    assert [c["domain"] for c in cube["cells"]] == [c["domain"] for c in one["cube"][1]["cells"]]
    assert (cube["cells"][0]["trained"], cube["cells"][0]["zero_shot"]) == (None, None)
    other["cube"][0]["metric"] = "f1_micro"
    with pytest.raises(unmask.UserError, match="judged by accuracy and f1_micro"):
        over_seeds([one, other], [])


@pytest.fixture
def changed(seeds: list[Path], tmp_path: Path) -> Callable[..., Path]:
    """A function that trains the recipe with changes."""

    def change(*changes: str) -> Path:
        recipe = yaml.safe_load((seeds[0].parent.parent / "r.yaml").read_text(encoding="utf-8"))
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        return unmask.train(recipe, out, ["train.steps=1", *changes]).bundle

    return change


def test_bundles_that_do_not_go_together_are_refused(
    seeds: list[Path], changed: Callable[..., Path], tmp_path: Path
) -> None:
    first = seeds[0]
    with pytest.raises(unmask.UserError, match="is given twice"):
        unmask.evaluate([first, first.parent / "bundle"])
    train = first.parent.parent / "train.csv"
    more = changed(f"tasks.words={{kind: mlm, train: {train}}}")
    with pytest.raises(unmask.UserError, match=r"has mood \(classify\), words \(mlm\), and"):
        unmask.evaluate([first, more])
    shares = [changed("tasks.mood.test=0.3", f"train.seed={seed}") for seed in (0, 1)]
    with pytest.raises(unmask.UserError, match=r"task mood, test: the rows .* differ \(.*--recipe"):
        unmask.evaluate(shares)
    fewer = changed(f"tasks.mood.test={{path: {first.parent.parent / 'test.csv'}, limit: 9}}")
    with pytest.raises(unmask.UserError, match="46 and 9 of them"):
        unmask.evaluate([first, fewer])
    none = changed("tasks.mood.test=null", "tasks.mood.valid=null")
    with pytest.raises(unmask.UserError, match=f"task mood: only {first} has held-out rows"):
        unmask.evaluate([first, none])
    chosen = changed("tasks.mood.test=null")
    with pytest.raises(unmask.UserError, match=r"scored on test rows and .* on valid rows"):
        unmask.evaluate([first, chosen])
    untagged = changed("tasks.mood.tags={language: {column: lang}}")
    with pytest.raises(unmask.UserError, match=r"task mood: the tags of .* differ"):
        unmask.evaluate([first, untagged])
    found = unmask.evaluate(shares, first.parent.parent / "r.yaml")  # one recipe says the rows
    assert found["cube"][0]["cells"][0]["rows"] == 2


def test_bundles_whose_spread_is_not_of_seeds_are_doubted(
    seeds: list[Path], changed: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(seeds[0], tmp_path / "copy")
    notes = unmask.evaluate([seeds[0], tmp_path / "copy"])["notes"]
    assert any("both trained with seed 0" in note for note in notes)
    notes = unmask.evaluate([seeds[0], changed("train.seed=3")])["notes"]
    assert any("differ in train.steps too" in note for note in notes)
    assert not any("differ in" in note for note in unmask.evaluate(seeds)["notes"])


def test_a_tag_of_no_column_is_refused(changed: Callable[..., Path]) -> None:
    with pytest.raises(unmask.UserError, match="has no column 'langs'; did you mean 'lang'"):
        changed("tasks.mood.tags.language={column: langs}")
    with pytest.raises(unmask.UserError, match=r"`tasks.mood.tags.langauge`.*language"):
        changed("tasks.mood.tags.langauge={column: lang}")


def test_values_go_by_other_names() -> None:
    """Two tasks that name languages each in their own way share the columns of the cube."""
    tags = {"language": {"column": "lang", "names": {"english": "en"}}, "domain": "films"}
    task = Classify("mood", ClassifyOptions(tags=tags), None, {"labels": ["no", "yes"]})  # type: ignore[arg-type]
    rows = [{"lang": "english", "label": "yes"}, {"lang": "de", "label": "no"}]
    found = cells(task, "test", judged(rows), "fp32")
    assert [cell.language for cell in found] == ["de", "en"]
    told = scores(task, "test", judged(rows), "fp32")
    assert {score.language for score in told} == {None, "de", "en"}
    rows_of_both = Rows([pa.RecordBatch.from_pylist(rows)], "rows")
    trained = trained_cells(task.options, rows_of_both, task.options)
    assert trained == Counter({("en", "films", "text"): 1, ("de", "films", "text"): 1})
