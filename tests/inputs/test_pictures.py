"""Pictures from rows to answers: recipes, training, bundles, scores by modality, commands."""

from __future__ import annotations

import base64
import io
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

import unmask
from unmask import recipe
from unmask.cli.app import app
from unmask.cli.initial import initial_recipe
from unmask.data.duplicates import duplicates
from unmask.data.sources import read
from unmask.encoder import Encoder, EncoderConfig, preset
from unmask.errors import UserError
from unmask.evaluation.scores import cell_in
from unmask.inputs.image import decode
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.recipe import Source
from unmask.tasks import KINDS, OPTIONS, Draw

IMAGE = {"size": 8, "patch": 4, "channels": 1}
_NEW = ("image", "audio", "embedding_norm")  # keys of the configuration that came with pictures


def png(light: str, seed: int) -> bytes:
    """Noise, bright or dark."""
    pixels = np.random.default_rng(seed).integers(0, 100, (8, 8)) + 155 * (light == "bright")
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def some(count: int) -> list[tuple[str, bytes]]:
    sides = [("bright", "dark")[i % 2] for i in range(count)]
    return [(side, png(side, i)) for i, side in enumerate(sides)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of pictures in two folders, and what is not looked at."""
    monkeypatch.chdir(tmp_path)
    for i, (side, data) in enumerate(some(40)):
        (tmp_path / "photos" / side).mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / side / f"{i:02}.png").write_bytes(data)
    (tmp_path / "photos" / "bright" / ".hidden.png").write_bytes(b"")
    (tmp_path / "photos" / "notes.txt").write_text("not a picture")
    return Path("photos")


def a_recipe(train: Any, **task: Any) -> dict[str, Any]:
    own = {"kind": "classify", "input": {"image": "image"}, "valid": 0.2, "test": 0.2, **task}
    return {
        "encoder": {"shape": "tiny", "style": "modern", "image": IMAGE},
        "tasks": {"side": {"train": str(train), **own}},
        "train": {"epochs": 12, "batch_tokens": 120, "learning_rate": 2e-3},
    }


def value(found: Any, metric: str, split: str = "test") -> float:
    return next(s.value for s in found.scores if (s.metric, s.split) == (metric, split))


def test_a_folder_of_pictures_is_rows_with_their_folders_as_labels(folder: Path) -> None:
    rows = read(Source(path=str(folder)))
    assert len(rows) == 40
    assert rows.column_names == ["image", "label"]
    assert {row["label"] for row in rows} == {"bright", "dark"}
    assert all(Path(row["image"]).is_file() for row in rows)
    flat = read(Source(path=str(folder / "bright")))
    assert (len(flat), flat.column_names) == (20, ["image"])
    named = read(Source(path=f"{folder}/{{where}}/*.png"))
    assert named[0] == {"image": str(folder / "bright" / "00.png"), "where": "bright"}
    assert duplicates([rows[:3]], rows[3:], ["image"])[0].count == 0
    with pytest.raises(UserError, match="no file matches"):
        read(Source(path=str(folder / ".nothing")))


def test_pictures_are_learnt_saved_and_answered_wherever_they_stand(
    folder: Path, tmp_path: Path
) -> None:
    data = a_recipe(folder)
    data["train"]["epochs"] = 20  # as many updates
    found = unmask.train(data, tmp_path / "run")
    assert value(found, "accuracy") > 0.85
    assert {score.modality for score in found.scores} == {"image"}
    model = unmask.load(str(tmp_path / "run" / "bundle"))
    assert model.encoder.config.image == recipe.ImageOptions(**IMAGE)
    data = png("dark", 99)
    path = folder / "dark" / "99.png"
    path.write_bytes(data)
    shown: list[Any] = [data, path, str(path), {"image": base64.b64encode(data).decode()}]
    shown.append({"image": {"bytes": data, "path": None}})
    answers = model.predict("side", shown)
    assert {answer.short for answer in answers} == {"dark"}
    alone = [model.predict("side", one)[0] for one in shown[:3]]
    for one, many in zip(alone, answers, strict=False):
        assert one.probabilities["bright"] == pytest.approx(many.probabilities["bright"], abs=1e-6)
    assert answers[0].tokens == 5
    vectors = model.encode([{"image": data}, {"image": data, "text": "hello"}])
    assert vectors.shape == (2, 128)
    assert not torch.allclose(vectors[0], vectors[1])
    again = unmask.evaluate(str(tmp_path / "run" / "bundle"))
    assert again["cube"][0]["modalities"] == ["image"]
    held = {s.split: s.rows for s in found.scores}
    assert again["cube"][0]["cells"][0]["trained"] == 40 - sum(held.values())
    model.text.beside["image"].files = False  # as a server has it
    with pytest.raises(UserError, match=r"row 1: task side: column 'image': .* no picture"):
        model.predict("side", str(path))


def test_a_picture_that_cannot_be_read_is_named_by_row_and_column(
    folder: Path, tmp_path: Path
) -> None:
    broken = folder / "bright" / "00.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(UserError, match=r"row \d+: task side: column 'image': no picture"):
        unmask.train(a_recipe(folder), tmp_path / "run")
    assert not (tmp_path / "run" / "bundle").exists()


def test_a_picture_larger_than_the_room_is_no_silent_cut(tmp_path: Path) -> None:
    found = a_recipe(tmp_path / "x.parquet", max_length=4)
    rows = [{"image": data, "label": side} for side, data in some(20)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="has 4 positions, and there is room for 3"):
        unmask.train(found, tmp_path / "run")


@pytest.fixture
def captioned(tmp_path: Path, reviews: Path) -> Path:
    """Rows with a picture and a caption, some with one of them."""
    words = {"bright": "the {} was good", "dark": "the {} was bad"}
    nouns = ["film", "cat", "dog", "world", "time", "one", "two", "three"]
    rows = []
    for i, (side, data) in enumerate(some(60)):
        picture, caption = i % 3 != 1, i % 3 != 2
        rows.append(
            {"picture": data if picture else None, "label": side}
            | {"text": words[side].format(nouns[i % 8]) if caption else None}
        )
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "captioned.parquet")
    return tmp_path / "captioned.parquet"


def test_a_caption_and_its_picture_are_one_sequence_and_either_may_lack(
    captioned: Path, tmp_path: Path
) -> None:
    both = {"text": "text", "image": "picture"}
    data = a_recipe(captioned, input=both)
    data["encoder"]["tokenizer"] = {"vocab_size": 100, "min_frequency": 1}
    found = unmask.train(data, tmp_path / "run")
    scores = [s for s in found.scores if (s.metric, s.split) == ("accuracy", "test")]
    assert [s.modality for s in scores] == [None, "image", "text", "text+image"]
    assert scores[0].rows == sum(s.rows for s in scores[1:])
    model = found.model if hasattr(found, "model") else unmask.load(tmp_path / "run" / "bundle")
    task = model.task("side")
    rng = np.random.default_rng(0)
    (with_both,), (text_alone,) = (
        next(iter(task.examples(row, Draw(rng, truth=False, learn=False)))).sequences
        for row in (
            {"picture": png("bright", 1), "text": "the film was good"},
            {"picture": None, "text": "the film was good"},
        )
    )
    text, image = with_both.segments
    assert (text.modality, image.modality) == ("text", "image")
    assert np.array_equal(text.values, text_alone.segments[0].values)  # where they stand alone
    cube = unmask.evaluate(str(tmp_path / "run" / "bundle"))["cube"][0]
    assert cube["modalities"] == ["image", "text", "text+image"]
    assert all(cell["trained"] > 0 for cell in cube["cells"])
    assert cell_in({"text": "a", "picture": None}, task.options) == (None, None, "text")
    with pytest.raises(UserError, match="row 2: task side: nothing stands in text, picture"):
        model.predict("side", [{"text": "good"}, {"text": "", "picture": None}])


def test_a_text_encoder_is_given_pictures_and_says_the_same_of_texts(
    reviews: Path, captioned: Path, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    text = unmask.train(tiny_recipe, tmp_path / "text")
    assert "image" in json.loads((tmp_path / "text/bundle/config.json").read_text())["encoder"]
    start = str(tmp_path / "text" / "bundle")
    data = a_recipe(captioned, input={"image": "picture"}, valid=None, test=None)
    data["encoder"] = {"from": start, "image": IMAGE}
    data["train"] = {"steps": 2, "learning_rate": 1e-9}
    with pytest.raises(UserError, match=r"train row \d+: task side: nothing stands in picture"):
        unmask.train(data, tmp_path / "run")
    data["tasks"]["side"]["input"] = {"text": "text", "image": "picture"}
    unmask.train(data, tmp_path / "run")
    before, after = unmask.load(start), unmask.load(tmp_path / "run" / "bundle")
    torch.testing.assert_close(
        before.hidden("the film"), after.hidden("the film"), atol=1e-4, rtol=0
    )
    data["encoder"] = {"from": str(tmp_path / "run" / "bundle"), "image": {**IMAGE, "patch": 2}}
    with pytest.raises(UserError, match="leave out what the start reads already"):
        unmask.train(data, tmp_path / "other")
    del text, data["encoder"]["image"]
    data["encoder"]["from"] = start
    with pytest.raises(UserError, match="column 'picture' holds image, which this encoder does"):
        unmask.train(data, tmp_path / "other")


def test_embed_brings_pictures_of_a_label_together(folder: Path, tmp_path: Path) -> None:
    data = a_recipe(folder, kind="embed", temperature=0.2)
    data["train"]["epochs"] = 30
    found = unmask.train(data, tmp_path / "run")
    assert value(found, "accuracy") > 0.8


def test_regress_reads_pictures(tmp_path: Path) -> None:
    rows = [
        {"image": data, "label": float(side == "bright") + i / 1000}
        for i, (side, data) in enumerate(some(40))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    found = unmask.train(a_recipe(tmp_path / "x.parquet", kind="regress"), tmp_path / "run")
    assert value(found, "spearman") > 0.5


def test_kinds_that_read_text_alone_say_so() -> None:
    for kind in ("mlm", "tag", "generate"):
        with pytest.raises(ValueError, match="reads text, and no image"):
            OPTIONS[kind].model_validate({"kind": kind, "input": {"text": "t", "image": "p"}})
    assert {kind for kind in KINDS if "image" in OPTIONS[kind].modalities} >= {
        "classify", "regress", "embed",
    }  # fmt: skip
    with pytest.raises(ValueError, match="input"):
        OPTIONS["classify"].model_validate({"input": {}})


def test_augmentation_follows_from_the_row_and_leaves_scores_alone(folder: Path) -> None:
    data = a_recipe(folder)
    data["encoder"]["image"] = {**IMAGE, "augment": {"shift": 0.3}}
    (run,) = recipe.parse(recipe.read(data), OPTIONS).values()
    from unmask.training.prepare import prepare

    prepared = prepare(run, torch.device("cpu"))
    task = prepared.model.task("side")
    row = read(Source(path=str(folder)))[0]

    def patches(seed: int, learn: bool) -> np.ndarray:
        draw = Draw(np.random.default_rng(seed), learn=learn)
        (example,) = task.examples(row, draw)
        return example.sequences[0].segments[1].values

    assert np.array_equal(patches(1, True), patches(1, True))
    assert not np.array_equal(patches(1, True), patches(2, True))
    assert np.array_equal(patches(1, False), patches(2, False))


def test_init_sees_pictures_in_folders_and_in_columns(folder: Path, tmp_path: Path) -> None:
    rows = [{"pic": {"bytes": data, "path": None}, "side": side} for side, data in some(20)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    for path, column, label in (
        (folder, "image", "label"),
        (tmp_path / "x.parquet", "pic", "side"),
    ):
        made = yaml.safe_load(initial_recipe(path, None, (), None)[0])
        recipe.parse(made, OPTIONS)
        (task,) = made["tasks"].values()
        assert (task["kind"], task["input"], task["label"]) == (
            "classify", {"image": column}, label,
        )  # fmt: skip
        assert made["encoder"]["image"] == {"size": 8, "patch": 2}
    with pytest.raises(UserError, match="no column looks like a label"):
        initial_recipe(folder / "bright", None, (), None)
    split = tmp_path / "split"
    for name in ("train", "val"):
        (split / name).mkdir(parents=True)
        (folder / "bright").rename(split / name / "bright") if name == "train" else (
            folder / "dark"
        ).rename(split / name / "dark")
    (split / "train" / "up").mkdir()
    (split / "train" / "up" / "0.png").write_bytes(png("bright", 0))
    made = yaml.safe_load(initial_recipe(split, None, (), None)[0])
    assert made["tasks"]["label"]["train"] == str(split / "train")
    assert made["tasks"]["label"]["valid"] == str(split / "val")


def test_the_command_answers_for_files_and_rows_of_bytes(folder: Path, tmp_path: Path) -> None:
    data = a_recipe(folder, valid=None, test=None)
    data["train"]["epochs"] = 1
    unmask.train(data, tmp_path / "run")
    bundle, picture = str(tmp_path / "run" / "bundle"), str(folder / "bright" / "00.png")

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        return done.stdout

    (answer,) = json.loads(run("predict", bundle, picture, "--json"))
    assert answer["image"] == picture
    (vector,) = json.loads(run("embed", bundle, "--modality", "image", picture))
    ours = unmask.load(bundle).encode({"image": picture})[0]
    assert vector == pytest.approx(ours.tolist(), abs=1e-5)
    assert "reads text, image" in str(
        CliRunner().invoke(app, ["embed", bundle, "--modality", "audio", picture]).exception
    )
    rows = [{"image": data, "label": side} for side, data in some(4)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    out = tmp_path / "out.jsonl"
    run("predict", bundle, "--input", str(tmp_path / "x.parquet"), "--output", str(out))
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["image"].endswith(" bytes") for row in written] == [True] * 4
    assert {row["prediction"] for row in written} <= {"bright", "dark"}


def test_an_encoder_of_before_pictures_is_the_same_encoder(tmp_path: Path) -> None:
    config = preset("tiny", "classic", vocab_size=64)
    older = {k: v for k, v in config.model_dump().items() if k not in _NEW}
    assert EncoderConfig.model_validate(older) == config
    assert not any("stems" in name for name in Encoder(config).state_dict())


def test_the_example_writes_folds_that_share_no_row(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "examples" / "handwriting.py"
    write = runpy.run_path(str(script))["write"]
    write(tmp_path, 4)
    train, test = (read(Source(path=str(tmp_path / f"{s}.parquet"))) for s in ("train", "test"))
    assert len(train) + len(test) == 1797
    assert len({row["digit"] for row in test}) == 10
    assert decode(train[0]["image"]).size == (8, 8)
    made = recipe.parse(recipe.read(script.parents[1] / "recipes" / "handwriting.yaml"), OPTIONS)
    assert made[""].encoder.image.width == 4


def test_a_picture_is_decoded_once_for_all_tasks_and_a_path_is_read_anew(
    folder: Path, text: TextInput, make_encoder: Callable[..., Encoder], monkeypatch: Any
) -> None:
    encoder = make_encoder(image=recipe.ImageOptions(**IMAGE))
    options = OPTIONS["classify"].model_validate({"kind": "classify", "input": {"image": "image"}})
    tasks = {name: KINDS["classify"](name, options, text, {"labels": ["a", "b"]}) for name in "xyz"}
    model = Model(encoder, text, tasks, {name: task.build(encoder) for name, task in tasks.items()})
    counted: list[bytes] = []
    monkeypatch.setattr(
        "unmask.inputs.image.decode", lambda data: (counted.append(data), decode(data))[1]
    )
    data = png("dark", 1)
    first = model.predict(["x", "y", "z"], [data, png("bright", 2)])
    assert len(counted) == 2
    path = folder / "dark" / "01.png"
    by_path = model.predict("x", path)[0]
    assert by_path == first[0]["x"]
    path.write_bytes(png("bright", 2))
    assert model.predict("x", path)[0] == first[1]["x"] != by_path
