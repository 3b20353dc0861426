"""Explain one row: scores of its words, and how far they can be trusted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from unmask.batch import Example
from unmask.errors import UserError
from unmask.explain.attention import attention as attention_of
from unmask.explain.attention import rollout
from unmask.explain.faithful import faithfulness, forgetful, rank_correlation
from unmask.explain.game import Game, Pace
from unmask.explain.gradients import FIRST, gradient_input, integrated_gradients
from unmask.explain.hiding import occlusion, shapley
from unmask.explain.places import By
from unmask.explain.result import Attention, Attribution, Explanation, Found, Part, Token
from unmask.jobs import unseen
from unmask.model import Model
from unmask.tasks import Answer, Generate, Row, Task

Method = Callable[[Game], Found]
METHODS: Mapping[str, Method] = {
    "integrated_gradients": integrated_gradients,
    "gradient_input": gradient_input,
    "occlusion": occlusion,
    "shapley": shapley,
    "rollout": rollout,
}
QUICKLY: Mapping[
    str, Method
] = {  # for weights drawn at random, where only the order of scores counts
    **METHODS,
    "integrated_gradients": partial(integrated_gradients, most=FIRST),
    "shapley": partial(shapley, orders=4),
}
BESIDE = ("gradient_input", "occlusion", "rollout")  # quick ones, to compare with
MOST_ATTENTION = 128  # tokens of a sequence whose attention is given: it grows with the square


def explain(
    model: Model,
    task: str,
    row: str | tuple[str, ...] | Row,
    *,
    answer: str | None = None,
    methods: Sequence[str] = ("integrated_gradients",),
    by: By = "word",
    check: bool = True,
    attention: bool = False,
    done: Callable[[int], None] | None = None,
    pace: Pace | None = None,
) -> Explanation:
    """Why a task answers a row as it does, or how much speaks for another `answer`.

    What may be named as `answer` depends on the kind: a label; an entity or a word; a stretch of
    the context; a guess such as `2:cat`; a piece of what was written. The scores of `methods` are
    of words, or of tokens, and in the target's unit, such as a logit. With `check` it is measured
    how faithful they are. `done` hears of each of the `steps` of it; `pace` says how large a pass
    is and what happens before it. A UserError says what cannot be explained.
    """
    done = done or (lambda count: None)
    game, own = game_of(model, task, row, answer, by, pace)
    for name in methods:
        if name not in METHODS:
            raise UserError(f"method {name!r}: choose of {', '.join(METHODS)}")
    found: dict[str, tuple[Found, float]] = {}
    for name in dict.fromkeys((*methods, *(BESIDE if check else ()))):
        began = time.perf_counter()
        found[name] = METHODS[name](game), time.perf_counter() - began
        done(1)
    stranger = forgetful(game) if check else None
    blank = game.ask(np.zeros((1, len(game.parts))))[0, 1]
    dropped = sum(sequence.dropped for sequence in game.example.sequences)
    return Explanation(
        task=task,
        kind=game.task.kind,
        answer=_named(game, answer),
        own=own,
        measure=game.task.measure,
        value=game.whole[1],
        blank=float(blank),
        target=game.whole[0],
        parts=_parts(game),
        tokens=_tokens(game),
        methods=[
            _attribution(name, *found[name], game, found, stranger, done)
            for name in dict.fromkeys(methods)
        ],
        dropped=dropped,
        notes=_notes(game, dropped),
        attention=_attention(game) if attention else None,
    )


def attention_at(
    model: Model,
    task: str,
    row: str | tuple[str, ...] | Row,
    layer: int,
    pace: Pace | None = None,
) -> Attention:
    """Where the heads of one layer, from 1, look as a task reads a row."""
    layers = model.encoder.config.num_layers
    if not 1 <= layer <= layers:
        raise UserError(f"layer {layer}: this encoder has layers 1 to {layers}")
    game, _ = game_of(model, task, row, None, "token", pace)
    _check_size(game)
    tokens: list[list[str]] = [[] for _ in game.example.sequences]
    for place in game.places:
        tokens[place.sequence].append(place.text)
    return Attention(
        task=task,
        kind=game.task.kind,
        layers=layers,
        heads=model.encoder.config.num_heads,
        layer=layer,
        tokens=tokens,
        weights=[_rounded(table[layer - 1]) for table in attention_of(game)],
        dropped=sum(sequence.dropped for sequence in game.example.sequences),
    )


def steps(methods: Sequence[str], check: bool) -> int:
    """How many steps an explanation takes, for a progress bar."""
    several = {*methods, *(BESIDE if check else ())}
    return len(several) + 2 * len(set(methods)) * check


def game_of(
    model: Model,
    task: str,
    row: str | tuple[str, ...] | Row,
    answer: str | None,
    by: By,
    pace: Pace | None = None,
) -> tuple[Game, bool]:
    """The question that is explained, and whether it is the model's own answer."""
    own = model.task(task)
    model.eval()
    example = unseen(own, row, 0)
    pace = pace or Pace()
    said = _said(model, own, row, example, pace)
    example, chosen = own.explained(example, said, answer)
    game = Game(model, own, example, chosen, by, pace)
    if not game.parts:
        raise UserError("the text is empty, or has special tokens alone: nothing to explain")
    return game, answer is None or said.short == answer


def _said(
    model: Model,
    task: Task[Any, Any],
    row: str | tuple[str, ...] | Row,
    example: Example,
    pace: Pace,
) -> Answer:
    """What the model answers. A text is written in parts, since it may take long."""
    if not isinstance(task, Generate):
        pace.pause()
        return next(iter(model.answers(task, [example])))
    parts = model.write(task.name, row)
    while True:
        pace.pause()
        try:
            next(parts)
        except StopIteration as end:
            answer: Answer = end.value
            return answer


def _named(game: Game, answer: str | None) -> str:
    return answer if answer is not None else game.answer.short or "(none)"


def _attribution(
    name: str,
    found: Found,
    seconds: float,
    game: Game,
    others: Mapping[str, tuple[Found, float]],
    stranger: Game | None,
    done: Callable[[int], None],
) -> Attribution:
    compared = {
        other: rank_correlation(found.scores, theirs.scores)
        for other, (theirs, _) in others.items()
        if other != name
    }
    record = Attribution(
        method=name,
        scores=found.scores.tolist(),
        token_scores=None if found.tokens is None else found.tokens.tolist(),
        change=found.change,
        error=found.error,
        spread=None if found.spread is None else found.spread.tolist(),
        passes=found.passes,
        seconds=round(seconds, 4),
        agreement=compared,
    )
    if stranger is None:
        return record
    blind = np.abs(QUICKLY[name](stranger).scores)
    done(1)
    measured = faithfulness(game, found.scores)
    done(1)
    return record.model_copy(
        update={
            "faithfulness": measured,
            "random_weights": rank_correlation(np.abs(found.scores), blind),
        }
    )


def _parts(game: Game) -> list[Part]:
    return [
        Part(
            text=part.text,
            side=part.side,
            sequence=part.sequence,
            modality=part.modality,
            start=part.start,
            end=part.end,
            tokens=list(part.places),
        )
        for part in game.parts
    ]


def _tokens(game: Game) -> list[Token]:
    owner = {place: number for number, part in enumerate(game.parts) for place in part.places}
    return [
        Token(text=place.text, sequence=place.sequence, part=owner.get(i))
        for i, place in enumerate(game.places)
    ]


def _notes(game: Game, dropped: int) -> list[str]:
    found = []
    if dropped:
        read = game.example.length
        found.append(
            f"the text of {read + dropped} tokens was cut to {read}: what was cut is not explained"
        )
    if game.model.precision != "fp32":
        found.append(f"computed in {game.model.precision}: convergence errors are larger")
    if game.model.form is not None or game.model.exits:
        found.append(
            f"{game.model.form_name} gave the answer; the scores are of the same weights in "
            "torch, whose answer may differ a little"
        )
    if len(game.parts) < 3:
        found.append("with fewer than three parts there is no rank correlation")
    return found


def _attention(game: Game) -> list[object]:
    _check_size(game)
    return [_rounded(table) for table in attention_of(game)]


def _check_size(game: Game) -> None:
    longest = max(sequence.length for sequence in game.example.sequences)
    if longest > MOST_ATTENTION:
        raise UserError(
            f"attention of {longest} tokens is too much to show (at most {MOST_ATTENTION}); "
            "explain a shorter text"
        )


def _rounded(table: np.ndarray) -> list[object]:
    return np.round(table.astype(np.float64), 4).tolist()
