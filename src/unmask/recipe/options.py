"""What a run is: typed, checked, and saved with its result.

A recipe is a list of tasks on one encoder. The kinds of task are handed in by `tasks`, each with
its own options, so that this file knows none of them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from unmask.recipe.modalities import AudioOptions, ImageOptions
from unmask.recipe.strict import Strict
from unmask.recipe.train import TrainOptions

Cell = str | int | float | bool
Cells = Cell | list[Cell]


class Source(Strict):
    """Where rows come from; a bare string in a recipe is its `path`."""

    path: str | list[str] = Field(
        description="file, glob pattern, package://PACKAGE/file or hub://owner/name; "
        "{name} captures a piece of the path as a column, ${VARIABLE} comes from the environment"
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="columns to rename: {new name: name in the file}"
    )
    split: str | None = Field(
        None, description="the split of a hub dataset, or of a built corpus (train or valid)"
    )
    name: str | None = Field(
        None, description="the configuration of a hub dataset, or the part of a built corpus"
    )
    field: str | None = Field(None, description="in JSON or YAML, the key that holds the rows")
    only: dict[str, Cells] = Field(
        default_factory=dict,
        description="only rows with this value, or one of a list, in each of these columns",
    )
    without: dict[str, Cells] = Field(
        default_factory=dict,
        description="no rows with this value, or one of a list, in any of these columns",
    )
    limit: int | None = Field(None, gt=0, description="only the first rows, of those chosen")

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str | list) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        texts = {"type": "array", "items": {"type": "string"}}
        return {"anyOf": [{"type": "string"}, texts, handler(schema)]}


class Column(Strict):
    """A tag whose value stands in a column of the rows."""

    column: str = Field(description="the column that holds it")
    names: dict[str, str] = Field(
        default_factory=dict,
        description="other names of its values, such as `{english: en}`, so that tasks agree",
    )

    def of(self, row: Mapping[str, Any]) -> str | None:
        """The tag's value in a row; None where it has none."""
        return self.named(row.get(self.column))

    def named(self, cell: Any) -> str | None:
        """The tag's value of a cell of its column; an empty one, as in a CSV, has none."""
        said = "" if cell is None else str(cell)
        found = self.names.get(said, said)
        return found if found.strip() else None


class Inputs(Strict):
    """The columns of a row that hold more than text."""

    text: str | list[str] = Field(
        default_factory=list, description="the text column, or two for a pair"
    )
    image: str | None = Field(None, description="the column with the picture")
    audio: str | None = Field(None, description="the column with the recording")


class TaskOptions(Strict):
    """What every kind of task has; each kind adds its own."""

    # The keys that say how rows are read, and not what the head's weights are for.
    reading: ClassVar[tuple[str, ...]] = ("input", "max_length", "tags")
    modalities: ClassVar[tuple[str, ...]] = ("text",)  # that rows of this kind may hold

    kind: str = Field(description="which kind of task it is")
    train: Source | None = Field(None, description="rows to learn from; a recipe's tasks need them")
    valid: Source | float | None = Field(
        0.1,
        description="rows to choose the best checkpoint by, or the share of train held out; "
        "null: none, and the last checkpoint is kept",
    )
    test: Source | float | None = Field(
        None, description="rows to score at the end, or a further share of train held out"
    )
    input: str | list[str] | Inputs = Field(
        "text", description="the text column, or two for a pair; {image: column} and the like"
    )
    group: str | None = Field(
        None,
        description="column whose equal values stay on one side where a share is held out (the "
        "input columns unless said)",
    )
    max_length: int | None = Field(None, gt=2, description="longest sequence in tokens")
    adapter: str | None = Field(None, description="of the encoder, that this task looks through")
    weight: float = Field(1.0, gt=0, description="of this task's loss among the others")
    teacher: str | None = Field(
        None, description="a bundle to imitate: its task of this name, or its one of this kind"
    )
    teacher_share: float = Field(
        0.5, gt=0, le=1, description="of the loss that is the distance from the teacher"
    )
    balance: float = Field(
        1.0,
        ge=1,
        description="rows ** (1 / balance) of each language and domain, as the tags say; 1 takes "
        "them as they are",
    )
    tags: dict[Literal["language", "domain", "modality"], str | Column] = Field(
        default_factory=dict, description="by which scores are told apart: a word, or {column: …}"
    )

    @model_validator(mode="after")
    def _shares(self) -> TaskOptions:
        for modality in self.others:
            if modality not in self.modalities:
                known = ", ".join(self.modalities)
                raise ValueError(f"input: a task of this kind reads {known}, and no {modality}")
        if not (len(self.texts) <= self.most and self.inputs):
            raise ValueError(f"input: name 1 column or 2 for a pair, not {len(self.inputs)}")
        for name in ("valid", "test"):
            share = getattr(self, name)
            if isinstance(share, float) and not 0 < share < 1:
                raise ValueError(f"{name}: a share lies between 0 and 1, not {share}")
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """The input columns, those of text first."""
        return (*self.texts, *self.others.values())

    @property
    def texts(self) -> tuple[str, ...]:
        """The input columns that hold text, in order."""
        found = self.input.text if isinstance(self.input, Inputs) else self.input
        return (found,) if isinstance(found, str) else tuple(found)

    @property
    def others(self) -> dict[str, str]:
        """The input columns that hold pictures or recordings, by modality."""
        found = ("image", "audio") if isinstance(self.input, Inputs) else ()
        return {m: column for m in found if (column := getattr(self.input, m)) is not None}

    @property
    def modality(self) -> str:
        """What the rows hold that lack none of their columns, such as `text` or `text+image`."""
        return "+".join((*(("text",) if self.texts else ()), *self.others))

    @property
    def most(self) -> int:
        """How many text columns there may be."""
        return 2

    @property
    def fewest(self) -> int:
        """How many input columns of a row must be given."""
        return len(self.inputs)

    @property
    def spelt(self) -> tuple[str, ...]:
        """The columns whose texts a new vocabulary is learnt from."""
        return self.texts

    @property
    def held_by(self) -> tuple[str, ...]:
        """The columns by which shares are held out: rows that are equal there stay together."""
        return (self.group,) if self.group else self.inputs

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that rows to learn from or to score must have."""
        tags = [tag.column for tag in self.tags.values() if isinstance(tag, Column)]
        return (*self.inputs, *tags)


class NewTokenizer(Strict):
    """A vocabulary to learn: by a recipe, or by `unmask tokenizer train`."""

    kind: Literal["wordpiece", "bpe", "unigram"] = Field(
        "wordpiece", description="as in BERT, in RoBERTa and ModernBERT, or in XLM-R"
    )
    vocab_size: int = Field(8192, ge=100, description="how many pieces it has")
    lowercase: bool | None = Field(
        None, description="lowercase; wordpiece strips accents then, and does both unless said"
    )
    min_frequency: int = Field(
        2, ge=1, description="how often a piece must occur (not of unigram, which weighs by use)"
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="texts ** (1 / temperature) of each language; 1 takes them as they are, large "
        "gives all languages the same weight",
    )

    @property
    def folds(self) -> bool:
        """Whether capitals go."""
        return self.kind == "wordpiece" if self.lowercase is None else self.lowercase


class AdapterOptions(Strict):
    """The size of one adapter (LoRA, Hu et al., arXiv:2106.09685)."""

    rank: int = Field(8, gt=0, description="r, the rank of the change to each matrix")
    scale: float = Field(2.0, gt=0, description="of the change; alpha / r in the paper")
    dropout: float = Field(0.0, ge=0, lt=1, description="of what the adapter sees, in training")


class EncoderOptions(Strict):
    """A pretrained encoder to start from, or the shape of a new one."""

    source: str | None = Field(
        None, alias="from", description="bundle or Hugging Face folder, package://…, or hub id"
    )
    shape: Literal["tiny", "mini", "small", "base"] | None = Field(
        None,
        description="of a new encoder, layers × width: 2 × 128, 4 × 256, 4 × 512 or 12 × 768",
    )
    style: Literal["classic", "modern"] | None = Field(
        None, description="of a new encoder (modern unless said)"
    )
    tokenizer: NewTokenizer | str | None = Field(
        None,
        description="a folder with one, or how to learn one; with `from` it takes the place of the "
        "encoder's own, whose token vectors are carried over",
    )
    vectors: str | None = Field(
        None,
        description="word vectors (word2vec, GloVe) to begin with: of a new encoder, its token "
        "vectors; of `from` with a `tokenizer`, what says which tokens are alike",
    )
    max_positions: int | None = Field(None, gt=2, description="longest sequence of a new encoder")
    dropout: float | None = Field(None, ge=0, lt=1, description="in place of the encoder's own")
    attention_dropout: float | None = Field(
        None, ge=0, lt=1, description="likewise, of the attention's weights"
    )
    adapters: dict[str, AdapterOptions] = Field(
        default_factory=dict, description="small changes of the encoder, by name (LoRA)"
    )
    image: ImageOptions | None = Field(None, description="how it reads pictures")
    audio: AudioOptions | None = Field(None, description="how it reads recordings")

    @model_validator(mode="after")
    def _one_start(self) -> EncoderOptions:
        if (self.source is None) == (self.shape is None):
            raise ValueError("give either `from` (a pretrained encoder) or `shape` (a new one)")
        for key in ("style", "max_positions"):
            if self.source is not None and getattr(self, key) is not None:
                raise ValueError(f"`{key}` is for a new encoder; `from` brings its own")
        if self.vectors is not None and self.source is not None and self.tokenizer is None:
            raise ValueError("`vectors` beside `from` are for a new `tokenizer`; give one")
        return self


Sampling = Literal["proportional", "uniform", "temperature"]


class Mixture(Strict):
    """How often each task is drawn."""

    sampling: Sampling = Field(
        "proportional",
        description="by the tasks' rows, all alike, or by a root of their rows (temperature)",
    )
    temperature: float = Field(  # less would make powers of rows that no number holds
        2.0, ge=0.1, description="rows ** (1 / temperature); 1 is proportional, large is uniform"
    )
    towards: Sampling | None = Field(
        None, description="a sampling that the shares have come to at the end of the run"
    )

    def shares(self, rows: Mapping[str, int], progress: float = 0.0) -> dict[str, float]:
        """The share of the rows drawn that each task gets when so much of the run is over.

        On the way `towards` another sampling it moves in a straight line, after the annealed
        sampling of Stickland & Murray (arXiv:1902.02671).
        """
        first, last = (self._shares(rows, how) for how in (self.sampling, self.towards))
        return {task: first[task] + (last[task] - first[task]) * progress for task in rows}

    def _shares(self, rows: Mapping[str, int], how: Sampling | None) -> dict[str, float]:
        powers = {"proportional": 1.0, "uniform": 0.0, "temperature": 1 / self.temperature}
        raw = {task: count ** powers[how or self.sampling] for task, count in rows.items()}
        return {task: value / sum(raw.values()) for task, value in raw.items()}


def check_name(where: str, name: str) -> None:
    """Refuse a name that could not be a file's: letters of any script, digits, - and _ are good."""
    if not is_name(name):
        raise ValueError(f"{where}: {name!r} is no name: use letters, digits, - and _")


def is_name(name: str) -> bool:
    """Whether a task or a stage may be called so."""
    marks = ("Mn", "Mc")  # the vowel signs of many scripts are not letters to Unicode
    good = (c.isalnum() or c in "-_" or unicodedata.category(c) in marks for c in name)
    return name[:1].isalnum() and all(good)


class Run(Strict):
    """One run: an encoder, its tasks, and how to train them."""

    encoder: EncoderOptions = Field(description="what is trained: a start, or a new shape")
    tasks: dict[str, Any] = Field(description="what it learns: each task under a name")
    mixture: Mixture = Field(Mixture(), description="how often each task is drawn")
    train: TrainOptions = Field(TrainOptions(), description="how long, how fast, how exact")

    @model_validator(mode="after")
    def _names(self) -> Run:
        if not self.tasks:
            raise ValueError("tasks: there is none; a run needs at least one")
        for name in self.tasks:
            check_name("tasks", name)
        if self.train.frozen and self.train.adversarial:
            raise ValueError(
                "train.adversarial shifts what a trunk learns from: this one is frozen"
            )
        of_several = {"conflicts": self.train.conflicts, "pull": self.train.pull == "even"}
        asked = next((f"train.{key}" for key, is_set in of_several.items() if is_set), None)
        if asked and (self.train.frozen or len(self.tasks) < 2):
            raise ValueError(
                f"{asked} is of several tasks on one trunk that learns: "
                + ("this one is frozen" if self.train.frozen else "there is one task only")
            )
        if self.train.frozen and (self.encoder.image or self.encoder.audio):
            raise ValueError(
                "encoder.image and encoder.audio are a stem, which must learn: the trunk is frozen"
            )
        if self.train.frozen and self.encoder.source and self.encoder.tokenizer:
            raise ValueError(
                "encoder.tokenizer is a new vocabulary, which the trunk must learn: it is frozen"
            )
        return self

    def dump(self) -> dict[str, Any]:
        """The recipe as plain data, defaults and all; `parse` gives it back."""
        return self.model_dump(mode="json", by_alias=True)
