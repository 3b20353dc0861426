"""What a corpus is built from, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unmask.recipe import Column, Source, Strict


class CorpusSource(Source):
    """A source of documents: rows, the column with their text, and their tags."""

    text: str = Field("text", description="the column with the document")
    tags: dict[Literal["language", "domain"], str | Column] = Field(
        default_factory=dict, description="of its documents: a word, or {column: …}"
    )

    @property
    def needed(self) -> list[str]:
        """The columns that its rows must have."""
        tags = [tag.column for tag in self.tags.values() if isinstance(tag, Column)]
        return [self.text, *tags]


class CorpusRecipe(Strict):
    """Sources, the tokenizer, what is dropped, and what is held out."""

    sources: list[CorpusSource] = Field(min_length=1, description="where documents come from")
    tokenizer: str = Field(
        description="a folder with tokenizer.json, such as a bundle; or that file"
    )
    near: float | None = Field(
        0.8,
        ge=0.5,
        lt=1,
        description="documents that share so much with an earlier one are dropped: the Jaccard "
        "similarity of their sets of five characters; null: only those that are the same",
    )
    held_out: float = Field(
        0.01, ge=0, lt=1, description="share of the documents that is put aside as `valid`"
    )
    shortest: int = Field(1, gt=0, description="characters; shorter documents are dropped")
    longest: int = Field(1 << 22, gt=0, description="bytes of UTF-8; longer documents are dropped")
    seed: int = Field(0, ge=0, lt=1 << 32, description="of what is held out")
