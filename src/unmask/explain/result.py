"""What an explanation is, as plain data: its JSON schema is `Explanation.model_json_schema()`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, Field


@dataclass(frozen=True)
class Found:
    """What a method found: a score for each part (n,), and where it has them of each position."""

    scores: np.ndarray
    tokens: np.ndarray | None = None  # (P,)
    change: float | None = None  # of the target, that the scores should add up to
    error: float | None = None  # by how much they do not
    spread: np.ndarray | None = None  # (n,) standard errors
    passes: int | None = None  # copies of the example that were read


class Token(BaseModel):
    """One position: a token, a patch, a frame."""

    text: str
    sequence: int = Field(description="which sequence of the row it is in, from 0")
    part: int | None = Field(description="number of its part; null for special tokens")


class Part(BaseModel):
    """What is scored: a word (or a token), a patch, a frame."""

    text: str
    side: int = Field(description="0 for the first text of the row, 1 for the second")
    sequence: int
    modality: str
    start: int | None = Field(description="its first character in the text of its side, if known")
    end: int | None = Field(description="the character behind it")
    tokens: list[int] = Field(description="numbers of its tokens")


class Hiding(BaseModel):
    """What hiding parts by an order does to the value (DeYoung et al., arXiv:1911.03429)."""

    comprehensiveness: float = Field(
        description="how far the value falls without the first 1, 5, 10, 20 and 50 % of the parts, "
        "in the mean; more is better"
    )
    sufficiency: float = Field(
        description="how far it falls with these parts alone, in the mean; less is better"
    )
    top_20: float = Field(description="how far it falls without the first 20 %")
    deletion_area: float = Field(
        description="the mean value while parts are hidden one after the other; less is better"
    )


class Faithfulness(Hiding):
    """The same of an explanation, its curve, and what orders drawn at random give."""

    deletion: list[tuple[float, float]] = Field(description="share of the parts hidden, and value")
    chance: Hiding = Field(description="the mean of orders drawn at random")


class Attribution(BaseModel):
    """The scores of one method, and what was measured of them."""

    method: str
    scores: list[float] = Field(description="one a part; above 0 speaks for the answer")
    token_scores: list[float] | None = Field(description="one a token, where the method has them")
    change: float | None = Field(
        description="of the target between all hidden and all there: the scores' sum"
    )
    error: float | None = Field(description="the convergence error: by how much they miss it")
    spread: list[float] | None = Field(description="standard errors, where orders were drawn")
    passes: int | None = Field(description="copies of the row that the encoder read for it")
    seconds: float
    faithfulness: Faithfulness | None = None
    agreement: dict[str, float | None] = Field(
        default_factory=dict, description="rank correlation with other methods' scores"
    )
    random_weights: float | None = Field(
        None,
        description="rank correlation of the scores' sizes with those of the same model with "
        "weights drawn at random (arXiv:1810.03292); near 1, it explains the text and no model",
    )


class Neighbour(BaseModel):
    """A row of the training data that is near in the trunk's space."""

    cosine: float
    text: str
    truth: str
    row: int


class Explanation(BaseModel):
    """Why a model said something of a row."""

    version: int = 1
    task: str
    kind: str
    answer: str = Field(description="what is explained")
    own: bool = Field(description="whether it is the model's own answer, or one asked about")
    measure: str = Field(description="what `value` is: probability, cosine, number, score")
    value: float
    blank: float = Field(description="the value with every part hidden")
    target: float = Field(description="what the scores are of, such as a logit")
    parts: list[Part]
    tokens: list[Token]
    methods: list[Attribution]
    dropped: int = Field(description="tokens that were cut, and are in no score")
    notes: list[str]
    neighbours: list[Neighbour] = Field(default_factory=list)
    attention: list[Any] | None = Field(
        None, description="of each sequence, by layer, head, query and key; if asked for"
    )


class Attention(BaseModel):
    """Where the heads of one layer of the encoder look."""

    version: int = 1
    task: str
    kind: str
    layers: int
    heads: int
    layer: int = Field(description="which one this is, from 1")
    tokens: list[list[str]] = Field(description="of each sequence of the row")
    weights: list[Any] = Field(description="of each sequence, by head, query and key")
    dropped: int = Field(description="tokens that were cut")
