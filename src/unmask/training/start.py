"""What a run starts from: a new encoder, or a pretrained one with what the recipe changes of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from unmask.data.corpus import CorpusRows
from unmask.data.sources import Rows
from unmask.encoder import Encoder, preset
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.inputs.vectors import WordVector, read_vectors
from unmask.inputs.vocabulary import SPECIAL, Spoken, balanced, learn, wordpiece
from unmask.inputs.word_vectors import learn_vectors
from unmask.interop import tokenizer_file
from unmask.loading import load
from unmask.model import Model
from unmask.recipe import Column, EncoderOptions, NewTokenizer, Run, Source, TaskOptions
from unmask.tasks.views import by_language
from unmask.training.new_vocabulary import round_up, with_vocabulary
from unmask.training.vectors import begin_at_vectors

log = logging.getLogger("unmask")


def start_of(run: Run, rows: Mapping[str, Rows]) -> Model:
    """The pretrained model to start from, or a new encoder of the recipe's shape."""
    options = run.encoder
    changes: dict[str, Any] = {
        key: value
        for key in ("dropout", "attention_dropout", "adapters", "image", "audio")
        if (value := getattr(options, key)) not in (None, {})
    }
    if options.source is None:
        return _new(run, rows, changes)
    start = _changed(load(options.source), changes)
    if options.tokenizer is None:
        return start
    tokenizer = _tokenizer(options, run, rows)
    return with_vocabulary(start, tokenizer, lambda: _words(run, rows), run.train.seed)


def _new(run: Run, rows: Mapping[str, Rows], changes: dict[str, Any]) -> Model:
    options = run.encoder
    text = TextInput(_tokenizer(options, run, rows))
    assert options.shape is not None  # EncoderOptions has either a source or a shape
    if options.max_positions is not None:
        changes["max_positions"] = options.max_positions
    size = round_up(text.vocab_size)
    config = preset(options.shape, options.style or "modern", vocab_size=size, **changes)
    text.max_length = config.max_positions
    encoder = Encoder(config)
    if options.vectors is not None:
        begin_at_vectors(encoder, text, _words(run, rows), run.train.seed)
    return Model(encoder, text)


def _changed(model: Model, changes: dict[str, Any]) -> Model:
    """The model with other dropout, new adapters beside those it has, or a new modality."""
    if not changes:
        return model
    config = model.encoder.config
    adapters = {**config.adapters, **changes.pop("adapters", {})}
    encoder = Encoder(config.model_copy(update={**changes, "adapters": adapters}))
    known = model.encoder.state_dict()
    for name, weight in encoder.state_dict().items():
        if name in known and weight.shape != known[name].shape:
            raise UserError(
                f"encoder: {name} has the shape {tuple(known[name].shape)} in the start, and by "
                f"the recipe it has {tuple(weight.shape)}: leave out what the start reads already"
            )
    encoder.load_state_dict(
        {**encoder.state_dict(), **{n: known[n] for n in encoder.state_dict() if n in known}}
    )
    heads = {name: model.head(name) for name in model.tasks}
    return Model(encoder, model.text, model.tasks, heads, model.pooling)


def _tokenizer(options: EncoderOptions, run: Run, rows: Mapping[str, Rows]) -> Tokenizer:
    """The one that the recipe names, or that of its corpus, or a new one of the training texts."""
    wanted = options.tokenizer or _of_corpus(rows) or NewTokenizer()
    if options.tokenizer is None and not any(task.spelt for task in run.tasks.values()):
        return wordpiece({token: i for i, token in enumerate(SPECIAL)}, lowercase=True)  # no texts
    if isinstance(wanted, NewTokenizer):
        if corpus := _of_corpus(rows):
            raise UserError(
                f"a new vocabulary cannot read the tokens of {Path(corpus).parent}: leave "
                "`encoder.tokenizer` out for a new encoder, or build the corpus with the "
                "encoder's tokenizer"
            )
        log.info("learning a vocabulary of %d pieces", wanted.vocab_size)
        return learn(balanced(lambda: _texts(run, rows), wanted.temperature), wanted)
    return TextInput.read(tokenizer_file(wanted)).tokenizer


def _of_corpus(rows: Mapping[str, Rows]) -> str | None:
    """The tokenizer of the first corpus among the rows, which a new encoder then has too."""
    found = (str(own.tokenizer_file) for own in rows.values() if isinstance(own, CorpusRows))
    return next(found, None)


def _words(run: Run, rows: Mapping[str, Rows]) -> Iterator[WordVector]:
    """The word vectors that the recipe names, or new ones of the training texts."""
    if run.encoder.vectors is not None:
        return read_vectors(Path(run.encoder.vectors).expanduser())
    log.info("learning from the training texts which words are alike")
    return learn_vectors(lambda: (text for _, text in _texts(run, rows)))


def _texts(run: Run, rows: Mapping[str, Rows]) -> Iterator[Spoken]:
    """The texts of all tasks with their languages; what several tasks read counts once."""
    done: list[tuple[Source | None, str, Rows]] = []
    for name, options in run.tasks.items():
        own = rows[name]
        columns = [
            column
            for column in options.spelt
            if not any(
                source == options.train and known == column and np.array_equal(other.ids, own.ids)
                for source, known, other in done
            )
        ]
        done += [(options.train, column, own) for column in columns]
        for row in own if columns else ():
            for column in columns:
                value = row.get(column)
                if spoken := by_language(value):
                    yield from spoken.items()
                    continue
                texts = value if isinstance(value, list) else [value]  # a list of words
                language = _language(options, row)
                yield from ((language, text) for text in texts if isinstance(text, str))


def _language(options: TaskOptions, row: Mapping[str, Any]) -> str | None:
    """As the task's tags say, or the column `language`."""
    tag = options.tags.get("language", Column(column="language"))
    return tag.of(row) if isinstance(tag, Column) else tag
