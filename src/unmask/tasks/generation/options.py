"""What there is to choose when writing is learnt, and when a text is written."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from unmask.errors import UserError
from unmask.recipe import Strict, TaskOptions

_COLDEST = 1e-3  # below, log-probabilities over it are no numbers of fp32
_ONE_BY_ONE = ("beams", "temperature", "no_repeat")  # what needs a left and a right


class DecodeOptions(Strict):
    """How answers are written, unless `predict` is told otherwise."""

    mode: Literal["left_to_right", "parallel"] | None = Field(
        None, description="of a task that learnt both (left_to_right unless said)"
    )
    top: int = Field(1, ge=1, description="how many texts for each row, best first")
    longest: int | None = Field(
        None, gt=0, description="most pieces to write (the task's target_length unless said)"
    )
    prefix: str = Field("", description="a text that every answer begins with")
    banned: list[str] = Field(
        default_factory=list, description="texts that no answer may hold, in this very spelling"
    )
    copy_source: bool = Field(
        False,
        description="unknown words are copied from the source, and digits stand only where the "
        "source has them",
    )
    beams: int = Field(1, ge=1, description="of beam search; 1 takes the likeliest piece each time")
    length_penalty: float = Field(
        1.0,
        ge=0,
        le=10,
        description="log-probabilities are divided by length to this power, to rank",
    )
    no_repeat: int = Field(0, ge=0, description="no stretch of so many pieces comes twice")
    temperature: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="pieces are drawn at this temperature; 0 takes the likeliest",
    )
    top_k: int | None = Field(None, gt=0, description="only among the likeliest so many")
    top_p: float | None = Field(
        None, gt=0, le=1, description="only among the likeliest with this probability in all"
    )
    seed: int = Field(0, ge=0, description="of what is drawn")
    rounds: int = Field(10, ge=1, description="in parallel mode: passes over a text")
    lengths: int = Field(5, ge=1, description="in parallel mode: lengths tried for each text")
    schedule: Literal["linear", "cosine"] = Field(
        "linear", description="in parallel mode: how the share of masks falls, round by round"
    )

    @model_validator(mode="after")
    def _one_way(self) -> DecodeOptions:
        if self.beams > 1 and self.temperature:
            raise ValueError("beams search and temperature draws: choose one of them")
        if (self.top_k or self.top_p) and not self.temperature:
            raise ValueError("top_k and top_p are for drawing: give a temperature too, such as 1")
        if 0 < self.temperature < _COLDEST:
            raise ValueError(f"temperature {self.temperature:g}: 0 takes the likeliest pieces")
        return self

    def changed(self, task: str, changes: Mapping[str, Any]) -> DecodeOptions:
        """With these options in place of some; a UserError says which is wrong."""
        unknown = [key for key in changes if key not in type(self).model_fields]
        if unknown:
            near = difflib.get_close_matches(unknown[0], type(self).model_fields, 1)
            said = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"task {task}: there is no option {unknown[0]!r} of writing{said}")
        given = self.model_dump(exclude_unset=True) | dict(changes)
        try:
            found = type(self).model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            said = first["msg"].removeprefix("Value error, ")
            raise UserError(f"task {task}: {where + ': ' if where else ''}{said}") from None
        return found

    def settled(self, learnt: str) -> DecodeOptions:
        """With the mode that a task has learnt; a ValueError where it cannot write so."""
        mode = self.mode or ("parallel" if learnt == "parallel" else "left_to_right")
        if learnt not in (mode, "both"):
            raise ValueError(f"mode {mode!r} was not learnt; train with `mode: both` for it")
        wrong = [k for k in _ONE_BY_ONE if getattr(self, k) != type(self).model_fields[k].default]
        if mode == "parallel" and wrong:
            raise ValueError(f"{wrong[0]} is for writing from left to right")
        if mode == "parallel" and self.top > self.lengths:
            raise ValueError(f"top {self.top}: so many texts need as many lengths")
        if mode == "left_to_right" and self.top > self.beams and not self.temperature:
            raise ValueError(f"top {self.top}: so many texts need as many beams, or a temperature")
        return self.model_copy(update={"mode": mode})


class GenerateOptions(TaskOptions):
    """From which column to which, learnt in which way, and how answers are written."""

    reading: ClassVar[tuple[str, ...]] = (
        *TaskOptions.reading, "target", "decode", "bleu", "rouge"
    )  # fmt: skip

    kind: Literal["generate"] = "generate"
    target: str | None = Field(
        None, description="the column to write; without one, the input itself is learnt and gone on"
    )
    mode: Literal["left_to_right", "parallel", "both"] = Field(
        "left_to_right", description="how to write; `both` draws one of them for each row"
    )
    target_length: int = Field(
        128, gt=0, description="most pieces of a target; room for it is kept in a sequence"
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="share of truth given to all")
    decode: DecodeOptions = Field(
        DecodeOptions(), description="how answers are written, unless said otherwise"
    )
    bleu: Literal["13a", "intl", "zh", "char", "none"] = Field(
        "13a", description="sacrebleu's tokenisation: `zh` for Chinese"
    )
    rouge: bool = Field(False, description="score by ROUGE too; needs the extra `rouge`")

    @model_validator(mode="after")
    def _possible(self) -> GenerateOptions:
        if self.target in self.inputs:
            raise ValueError(f"target: {self.target!r} is the input; leave target out to go on")
        if self.target is None and len(self.inputs) > 1:
            raise ValueError("input: without a target there is one column, the text itself")
        try:
            self.decode.settled(self.mode)
        except ValueError as error:
            raise ValueError(f"decode: {error}") from None
        return self

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns of every kind, and the target's."""
        return (*super().needed, *((self.target,) if self.target else ()))

    @property
    def spelt(self) -> tuple[str, ...]:
        """The inputs, and the target."""
        return (*super().spelt, *((self.target,) if self.target else ()))
