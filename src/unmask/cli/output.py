"""Printing results: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2, default=str)
    print()


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output; numbers stand to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if title:
        print(title)
    table = Table(box=None, pad_edge=False)
    body = [[f"{x:.4f}" if isinstance(x, float) else str(x) for x in row] for row in rows]
    for i, name in enumerate(columns):
        numbers = bool(body) and all(_is_number(row[i]) for row in body)
        table.add_column(name, justify="right" if numbers else "left")
    for row in body:
        table.add_row(*(Text(cell) for cell in row))
    width = None if sys.stdout.isatty() else 200
    Console(width=width).print(table)


def print_scores(records: Sequence[Mapping[str, Any]]) -> None:
    """Scores as a table: one row for each task, split and tag, one column a metric."""
    metrics = list(dict.fromkeys(record["metric"] for record in records))
    places = ("task", "split", "language", "domain")
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for record in records:
        key = tuple(str(record.get(place) or "all") for place in places)
        rows.setdefault(key, {"rows": record["rows"]})[record["metric"]] = record["value"]
    print_table(
        "",
        [*places, *metrics, "rows"],
        [
            [*key, *(cells.get(metric, "–") for metric in metrics), cells["rows"]]
            for key, cells in rows.items()
        ],
    )


def shorten(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).replace("-", "", 1).isdigit() or cell == "–"
