"""SQuAD's nested JSON (arXiv:1606.05250, arXiv:1806.03822) as one row a question."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unmask.errors import UserError

Row = dict[str, Any]


def is_nested(document: Any) -> bool:
    """Whether a document holds, under `data`, articles of paragraphs of questions."""
    articles = document.get("data") if isinstance(document, dict) else None
    return isinstance(articles, list) and any(
        isinstance(a, dict) and isinstance(a.get("paragraphs"), list) for a in articles
    )


def questions(document: Any, path: Path) -> list[Row]:
    """A row for each question: id, title, context, question, and answers `{text, start}`.

    A question that is marked as impossible has no answers.
    """
    at: list[int] = []
    try:
        return list(_questions(document["data"], at))
    except (KeyError, TypeError, AttributeError) as error:
        parts = zip(("article", "paragraph", "question"), at, strict=False)
        where = ", ".join(f"{part} {number}" for part, number in parts)
        lack = f"lacks {error}" if isinstance(error, KeyError) else "is not"
        raise UserError(
            f"{path} is laid out as SQuAD's files are, but {where} {lack}: each of "
            "`paragraphs` has a `context` and `qas`, each of those a `question` and `answers`, "
            "each of those a `text` and an `answer_start`; mend it"
        ) from None


def _questions(articles: list[Row], at: list[int]) -> Iterator[Row]:
    """The questions; `at` holds the numbers, from 1, of the parts that are being read."""
    for i, article in enumerate(articles, 1):
        at[:] = [i]
        for j, paragraph in enumerate(article["paragraphs"], 1):
            at[:] = [i, j]
            context = paragraph["context"]
            for k, asked in enumerate(paragraph["qas"], 1):
                at[:] = [i, j, k]
                known = [] if asked.get("is_impossible") else asked.get("answers") or []
                yield {
                    "id": str(asked.get("id", "")),
                    "title": str(article.get("title", "")),
                    "context": context,
                    "question": asked["question"],
                    "answers": [{"text": a["text"], "start": a["answer_start"]} for a in known],
                }
