"""The loop: what it draws, how it divides, when it evaluates, and what it leaves."""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import unmask
from unmask import bundle
from unmask.encoder import Encoder, HeadConfig
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.recipe import Mixture, TrainOptions, parse
from unmask.tasks import OPTIONS
from unmask.tasks.classify import Classify, ClassifyOptions
from unmask.tasks.mlm import Mlm, MlmOptions
from unmask.training.meter import Meter
from unmask.training.prepare import prepare
from unmask.training.processes import Processes
from unmask.training.rehearse import rehearse
from unmask.training.share import Microbatch
from unmask.training.stream import Chunk, MixedStream, Stream
from unmask.training.update import accumulate

ROWS = [{"text": f"the {w} was {'good' if i % 2 else 'bad'}", "label": str(i % 2)}
        for i, w in enumerate(["cat", "dog", "film", "red", "blue", "world", "time"])]  # fmt: skip


@pytest.fixture
def model(text: TextInput, make_encoder: Callable[..., Encoder]) -> Model:
    encoder = make_encoder()
    tasks = {
        "mood": Classify(
            "mood",
            ClassifyOptions(weight=2.0, head=HeadConfig(dropout=0)),
            text,
            {"labels": ["0", "1"]},
        ),
        "words": Mlm("words", MlmOptions(), text),
    }
    heads = {name: task.build(encoder) for name, task in tasks.items()}
    return Model(encoder, text, tasks, heads)


def test_a_stream_shows_every_row_once_an_epoch_in_a_new_order(model: Model) -> None:
    stream = Stream(model.tasks["mood"], ROWS, seed=1)
    seen = [stream.take(1).examples[0] for _ in range(14)]
    tokens = [tuple(e.sequences[0].segments[0].values) for e in seen]
    assert Counter(tokens[:7]) == Counter(tokens[7:])
    assert tokens[:7] != tokens[7:]
    again = Stream(model.tasks["mood"], ROWS, seed=1)
    longer = again.take(10_000).examples  # other chunks, the same order
    assert [tuple(e.sequences[0].segments[0].values) for e in longer[:14]] == tokens


def test_an_epoch_is_over_when_its_last_row_is_read_to_its_end(model: Model) -> None:
    task = model.tasks["words"]
    task.options = task.options.model_copy(update={"max_length": 6})
    long = [{"text": "the cat was red " * 10}, {"text": "blue"}]
    stream = Stream(task, long, seed=0)
    counts = []
    while stream.finished < 2:
        chunk = stream.take(1)
        counts.append(chunk.rows)
    assert sum(counts) == 2
    assert len(counts) == 11  # 40 words in windows of 4, and one


def test_rows_without_anything_to_learn_are_said(model: Model) -> None:
    with pytest.raises(UserError, match="none of its 2 training rows"):
        Stream(model.tasks["words"], [{"text": ""}, {"text": " "}], 0).take(5)


@given(
    counts=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 1000), min_size=1),
    temperature=st.floats(0.5, 50),
)
def test_shares_add_up_and_temperature_levels_them(
    counts: dict[str, int], temperature: float
) -> None:
    mixtures = {
        "proportional": Mixture(sampling="proportional"),
        "temperature": Mixture(sampling="temperature", temperature=temperature),
        "uniform": Mixture(sampling="uniform"),
    }
    shares = {name: mixture.shares(counts) for name, mixture in mixtures.items()}
    for share in shares.values():
        assert sum(share.values()) == pytest.approx(1)
    total = sum(counts.values())
    for task, count in counts.items():
        assert shares["proportional"][task] == pytest.approx(count / total)
        assert shares["uniform"][task] == pytest.approx(1 / len(counts))
    if temperature == 1:
        assert shares["temperature"] == pytest.approx(shares["proportional"])


def test_the_mixture_keeps_its_shares_at_every_moment(model: Model) -> None:
    streams = {"mood": Stream(model.tasks["mood"], ROWS, 0)}
    streams["words"] = Stream(model.tasks["words"], ROWS * 3, 0)
    mixed = MixedStream(streams, Mixture())
    for _ in range(60):
        mixed.take(8)
        drawn = {name: stream.drawn for name, stream in streams.items()}
        if sum(drawn.values()) > 20:
            assert drawn["mood"] / sum(drawn.values()) == pytest.approx(0.25, abs=0.08)
    assert drawn["mood"] / sum(drawn.values()) == pytest.approx(0.25, abs=0.02)


def test_shares_move_from_one_sampling_to_another(model: Model) -> None:
    """From 1 row in 4 to 1 in 2: the shares of each quarter of the run, and of all of it."""
    streams = {"mood": Stream(model.tasks["mood"], ROWS, 0)}
    streams["words"] = Stream(model.tasks["words"], ROWS * 3, 0)
    mixed = MixedStream(streams, Mixture(towards="uniform"))
    found, updates = [], 100
    for step in range(updates):
        before = streams["mood"].drawn, mixed.drawn
        mixed.take(40, progress=step / updates)
        found.append((streams["mood"].drawn - before[0], mixed.drawn - before[1]))
    quarters = [sum(x) / sum(y) for x, y in (zip(*found[i : i + 25], strict=True) for i in (0, 75))]
    assert quarters == pytest.approx([0.28, 0.47], abs=0.03)
    assert streams["mood"].drawn / mixed.drawn == pytest.approx(0.375, abs=0.01)
    assert Mixture(towards="uniform").shares({"a": 1, "b": 3}, 1.0) == {"a": 0.5, "b": 0.5}


def test_an_update_holds_every_task_in_its_share(model: Model) -> None:
    streams = {"mood": Stream(model.tasks["mood"], ROWS, 0)}
    streams["words"] = Stream(model.tasks["words"], ROWS * 3, 0)
    mixed = MixedStream(streams, Mixture())
    tokens: Counter[str] = Counter()
    both = 0
    for _ in range(30):
        chunks = mixed.take(200)
        both += {chunk.task for chunk in chunks} == {"mood", "words"}
        for chunk in chunks:
            tokens[chunk.task] += chunk.tokens
    assert both >= 24
    assert tokens["mood"] / tokens.total() == pytest.approx(0.25, abs=0.05)


def test_a_task_weighs_what_it_is_told_to(model: Model) -> None:
    chunks = [Stream(model.tasks[n], ROWS, 0).take(60) for n in ("mood", "words")]

    def with_weight(weight: float) -> dict[str, torch.Tensor]:
        task = model.tasks["mood"]
        task.options = task.options.model_copy(update={"weight": weight})
        return gradients(model, chunks)

    none, one, three = (with_weight(weight) for weight in (1e-9, 1.0, 3.0))
    for name in one:
        expected = none[name] + 3 * (one[name] - none[name])
        torch.testing.assert_close(three[name], expected, atol=1e-5, rtol=1e-3)


def gradients(model: Model, chunks: list[Chunk]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    tokens: Counter[str] = Counter()
    for chunk in chunks:
        tokens[chunk.task] += chunk.tokens
    share = {task: count / tokens.total() for task, count in tokens.items()}
    accumulate(
        model, [Microbatch(c.task, c.examples) for c in chunks], share, Processes(), TrainOptions()
    )
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_accumulation_is_one_big_batch(model: Model) -> None:
    """However an update is cut into chunks, uneven ones too, its gradient is the same."""
    mood = Stream(model.tasks["mood"], ROWS, 0).take(60)
    words = Stream(model.tasks["words"], ROWS, 0).take(90)
    whole = gradients(model, [mood, words])

    def cut(chunk: Chunk, *places: int) -> list[Chunk]:
        ends = [0, *places, len(chunk.examples)]
        return [Chunk(chunk.task, chunk.examples[a:b], b - a) for a, b in itertools.pairwise(ends)]

    parts = gradients(model, [*cut(words, 1, 5), *cut(mood, 3)])
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "used", "share"),
    [
        ({"steps": 10}, {"steps": 5}, 0.5),
        ({"tokens": 100}, {"tokens": 150}, 1.0),
        ({"minutes": 2}, {"seconds": 30}, 0.25),
        ({"epochs": 4}, {"rows": 100}, 0.5),
    ],
)
def test_budgets(options: dict[str, Any], used: dict[str, Any], share: float) -> None:
    assert Meter(TrainOptions(**options), epoch_rows=50, **used).share == share


def test_a_run_learns_and_leaves_what_it_says(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe = copy.deepcopy(tiny_recipe)
    recipe["train"] |= {"steps": 120, "learning_rate": 1e-3, "seed": 1}
    trained = unmask.train(recipe, tmp_path / "run")
    folder = trained.folder
    lines = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [x for x in lines if "loss" in x]
    assert [x["step"] for x in steps] == list(range(1, 121))
    assert all(x["rate"] > 0 for x in steps)
    assert {name for x in steps for name in x["loss"]} == {"mood", "words"}
    assert len([x for x in lines if "valid" in x]) == 5
    records = json.loads((folder / "scores.json").read_text())
    assert {(s["task"], s["split"]) for s in records} == {
        ("mood", "valid"),
        ("mood", "test"),
        ("words", "valid"),
    }
    assert {s["language"] for s in records if s["task"] == "mood"} == {None, "en", "xx"}
    accuracy = next(s["value"] for s in records if s["split"] == "test")
    assert accuracy >= 0.75
    bundle.verify(trained.bundle)
    assert "accuracy" in (trained.bundle / "README.md").read_text()
    assert unmask.load(trained.bundle).predict("mood", ["the film was great"])[0].short == "pos"
    for name in ("step-000000120", "best"):
        bundle.verify(folder / "checkpoints" / name)
    # the resolved recipe trains the same model again, bit for bit
    again = unmask.train(folder / "recipe.yaml", tmp_path / "again")
    for name, weight in trained.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name])


def test_stages_hand_the_encoder_on(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    tasks = tiny_recipe.pop("tasks")
    assert isinstance(tasks, dict)
    tiny_recipe["stages"] = {
        "pretrain": {"tasks": {"words": tasks["words"]}},
        "learn": {"tasks": tasks},
    }
    trained = unmask.train(tiny_recipe, tmp_path / "run")
    first = unmask.load(tmp_path / "run" / "stages" / "pretrain" / "bundle")
    assert first.text.tokenizer.get_vocab() == trained.model.text.tokenizer.get_vocab()
    assert set(trained.model.tasks) == {"mood", "words"}
    recipe = (tmp_path / "run" / "recipe.yaml").read_text()
    assert "stages/pretrain/bundle" in recipe


def test_a_later_stage_has_its_teacher_before_the_first_begins(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    tasks = tiny_recipe.pop("tasks")
    run = tmp_path / "run"
    tiny_recipe["stages"] = {
        "first": {"tasks": {"mood": tasks["mood"]}},
        "then": {"tasks": {"mood": {**tasks["mood"], "teacher": "no/such/bundle"}}},
    }
    with pytest.raises(UserError, match="task mood: its teacher no/such/bundle: there"):
        unmask.train(tiny_recipe, run)
    own = tiny_recipe["stages"]["then"]["tasks"]["mood"]
    for never in ("stages/frist", "stages/then", "."):  # nor will the run have made these
        own["teacher"] = f"{run}/{never}/bundle"
        with pytest.raises(UserError, match="task mood: its teacher"):
            unmask.train(tiny_recipe, run)
    assert not run.exists()
    own["teacher"] = f"{run}/../run/stages/first/bundle"
    assert unmask.train(tiny_recipe, run).scores  # made on the way
    assert not unmask.train(tiny_recipe, run, resume=True).anew


def test_tags_that_were_hardly_meant_so_are_said(
    tiny_recipe: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tags = tiny_recipe["tasks"]["mood"]["tags"]
    tags["language"] |= {"names": {"xx": "de", "english": "en"}}
    tiny_recipe["tasks"]["words"]["tags"] = {"language": "lang", "domain": "text"}
    unmask.train(tiny_recipe, tmp_path / "run", ["train.steps=1"])
    assert "task mood: tags.language names 'english', which no row has in 'lang'" in caplog.text
    assert "names 'xx'" not in caplog.text
    assert "task words: tags.language is the word 'lang' for all rows" in caplog.text
    assert "tags.domain" not in caplog.text  # a column that is read


def test_a_task_goes_on_from_the_head_it_had(
    tiny_recipe: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start = unmask.train(tiny_recipe, tmp_path / "run")
    recipe = {**tiny_recipe, "encoder": {"from": str(start.bundle), "dropout": 0.0}}
    recipe["train"] = {"steps": 2, "learning_rate": 1e-12}
    caplog.set_level("INFO", "unmask")
    after = unmask.train(recipe, tmp_path / "next")
    assert "goes on from the head 'mood'" in caplog.text
    for name, weight in start.model.state_dict().items():
        torch.testing.assert_close(weight, after.model.state_dict()[name])
    assert after.model.encoder.config.dropout == 0.0


def test_without_validation_rows_the_last_state_is_kept(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    for task in tiny_recipe["tasks"].values():
        task["valid"] = None
    trained = unmask.train(tiny_recipe, tmp_path / "run")
    assert not (trained.folder / "checkpoints" / "best").exists()
    last = unmask.load(trained.folder / "checkpoints" / "step-000000006")
    for name, weight in last.state_dict().items():
        assert torch.equal(weight, trained.model.state_dict()[name])


def test_a_rehearsal_shows_the_data_and_writes_nothing(
    tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    tiny_recipe["tasks"]["mood"]["max_length"] = 8
    found = rehearse(tiny_recipe)
    mood = found["tasks"]["mood"]
    assert len(mood["examples"]) == 3
    assert mood["examples"][0]["tokens"][0] == "[CLS]"
    assert 0 < mood["cut"]["rows"] < 1
    assert 0 < mood["cut"]["tokens"] < mood["cut"]["rows"]
    assert found["cost"]["updates"] == 6
    assert found["cost"]["tokens_per_second"] > 0
    assert found["cost"]["peak_memory_mb"] > 50
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["train", "type", "forward", "keys", "情感", "हिन्दी", "half"])
def test_a_task_may_be_called_anything(
    tiny_recipe: dict[str, Any], tmp_path: Path, name: str
) -> None:
    tiny_recipe["tasks"] = {name: tiny_recipe["tasks"]["mood"]}
    trained = unmask.train(tiny_recipe, tmp_path / "run", ["train.steps=2"])
    assert len(unmask.load(trained.bundle).predict(name, ["a", "b"])) == 2


def test_what_was_cut_is_in_the_scores(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    tiny_recipe["tasks"]["mood"]["max_length"] = 6
    trained = unmask.train(tiny_recipe, tmp_path / "run", ["train.steps=2"])
    cut = [s for s in trained.scores if s.metric == "cut"]
    assert {s.task for s in cut} == {"mood"}
    assert all(0 < s.value <= 1 for s in cut)
    assert {s.precision for s in trained.scores} == {"fp32"}


def test_scoring_the_columns_of_another_recipe(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    trained = unmask.train(tiny_recipe, tmp_path / "run", ["train.steps=2"])
    other = tmp_path / "other.csv"
    other.write_text("sentence,gold,place\nthe cat was good,pos,x\nthe dog was bad,neg,y\n")
    recipe = {
        "encoder": {"from": "unused"},
        "tasks": {
            "mood": {
                "kind": "classify",
                "valid": None,
                "test": str(other),
                "input": "sentence",
                "label": "gold",
                "tags": {"domain": {"column": "place"}},
            }
        },
    }
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(recipe))
    found = unmask.evaluate(trained.bundle, tmp_path / "other.yaml")
    assert {(s["domain"], s["rows"]) for s in found["scores"]} == {(None, 2), ("x", 1), ("y", 1)}


def test_nan_stops_the_run_and_is_named(
    tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Mlm, "loss", lambda self, outputs, batch: outputs["logits"].sum() * math.nan
    )
    with pytest.raises(UserError, match=r"none of the run's updates .* loss of task words is not"):
        unmask.train(tiny_recipe, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["tasks.mood.label=lable"], "has no column 'lable'.*did you mean 'label'"),
        (["tasks.mood.max_length=9000"], "max_length 9000 is over the 512 tokens"),
        (["train.device=abacus"], "train.device 'abacus' is not to be had here"),
        (["tasks.mood.train=null"], "`tasks.mood.train` is missing"),
        (["tasks.mood.train=nowhere.csv"], "nowhere.csv"),
        (["encoder={from: ./nowhere}"], "no folder ./nowhere"),
        (["encoder.tokenizer=nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_found_before_the_first_step(
    tiny_recipe: dict[str, Any], tmp_path: Path, changes: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        unmask.train(tiny_recipe, tmp_path / "run", changes)
    assert not (tmp_path / "run").exists()


def test_an_old_run_goes_only_when_told_to(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    unmask.train(tiny_recipe, tmp_path / "run")
    with pytest.raises(UserError, match=r"holds a run: choose another folder.*--overwrite"):
        unmask.train(tiny_recipe, tmp_path / "run")
    with pytest.raises(UserError, match="no column 'lable'"):
        unmask.train(tiny_recipe, tmp_path / "run", ["tasks.mood.label=lable"], overwrite=True)
    bundle.verify(tmp_path / "run" / "bundle")  # a mistake does not cost the old run
    again = {**tiny_recipe, "encoder": {"from": str(tmp_path / "run" / "bundle")}}
    unmask.train(again, tmp_path / "run", overwrite=True)  # nor does starting from it
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match="is no run folder"):
        unmask.train(tiny_recipe, tmp_path / "other", overwrite=True)


def test_what_validation_rows_teach_is_part_of_the_bundle(
    tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is learnt once, before the final scores, and does not keep a next run from the head."""
    seen: list[tuple[int, dict[str, Any]]] = []

    def fit(self: Classify, answers: Any, rows: Any) -> dict[str, Any]:
        assert [a.tokens for a in answers] == [len(self.text.encode(r["text"]).ids) for r in rows]
        seen.append((len(rows), dict(self.calibration)))
        return {"learnt": 7}

    def score(self: Classify, answers: Any, rows: Any) -> dict[str, float]:
        return {"accuracy": float(self.calibration.get("learnt", 0) == 7)}

    monkeypatch.setattr(Classify, "fit", fit)
    monkeypatch.setattr(Classify, "score", score)
    trained = unmask.train(tiny_recipe, tmp_path / "run")
    assert seen == [(6, {})]
    found = trained.model.tasks["mood"].calibration
    assert found["learnt"] == 7
    assert found.keys() == {"learnt", "promises", "known"}
    assert unmask.load(trained.bundle).tasks["mood"].calibration == found
    mood = [s for s in trained.scores if s.task == "mood" and s.metric == "accuracy"]
    assert {s.value for s in mood} == {1.0}
    tiny_recipe["encoder"] = {"from": str(trained.bundle)}
    (run,) = parse(tiny_recipe, OPTIONS).values()
    again = prepare(run, torch.device("cpu")).model
    for key, value in trained.model.head("mood").state_dict().items():
        assert torch.equal(again.head("mood").state_dict()[key], value)
