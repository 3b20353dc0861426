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
    return (
        isinstance(articles, list)
        and bool(articles)
        and all(isinstance(a, dict) and isinstance(a.get("paragraphs"), list) for a in articles)
    )


def questions(document: Any, path: Path) -> list[Row]:
    """A row for each question: id, title, context, question, and answers `{text, start}`.

    A question that is marked as impossible has no answers.
    """
    try:
        return list(_questions(document["data"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is laid out as SQuAD's files are, but for a part of it ({error!r}): each of "
            "`paragraphs` has a `context` and `qas`, each of those a `question` and `answers`, "
            "each of those a `text` and an `answer_start`"
        ) from None


def _questions(articles: list[Row]) -> Iterator[Row]:
    for article in articles:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                known = [] if asked.get("is_impossible") else asked.get("answers") or []
                yield {
                    "id": str(asked.get("id", "")),
                    "title": str(article.get("title", "")),
                    "context": paragraph["context"],
                    "question": asked["question"],
                    "answers": [{"text": a["text"], "start": a["answer_start"]} for a in known],
                }
