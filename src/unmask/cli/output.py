"""Printing results: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections import Counter
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


def difference(task: Mapping[str, Any]) -> tuple[str, str]:
    """Two cells of what two models differ by: the difference with its interval, and its chance."""
    change = f"{task['difference']:+.4f}"
    if task["low"] is not None:
        change += f" ({task['low']:+.3f}–{task['high']:+.3f})"
    return change, "–" if task["p"] is None else f"{task['p']:.3f}"


def print_scores(records: Sequence[Mapping[str, Any]]) -> None:
    """Scores as a table, one a line with its interval; what a line shares with the last is blank.

    The columns of tags are there only where some score has one, that of modalities where there are
    several.
    """
    from unmask.evaluation.scores import figure

    tags = [tag for tag in ("language", "domain") if any(record.get(tag) for record in records)]
    if len({record.get("modality") for record in records}) > 1:
        tags.append("modality")
    places = ["task", "split", *tags]
    rows: list[list[object]] = []
    last: list[str] = []
    for record in records:
        place = [str(record.get(key) or "all") for key in places]
        rows.append(
            [
                *([""] * len(place) if place == last else place),
                record["metric"],
                figure(record),
                record["rows"],
            ]
        )
        last = place
    several = next((len(r["values"]) for r in records if "values" in r), None)
    said = f"mean ± sd of {several}" if several else "95 % interval"
    print_table("", [*places, "metric", f"score ({said})", "rows"], rows)


def print_cube(cubes: Sequence[Mapping[str, Any]]) -> None:
    """A table for each task that has several cells: languages down, domains across."""
    from unmask.evaluation.cube import table

    shown = [cube for cube in cubes if len(cube["cells"]) > 1]
    for cube in shown:
        columns, rows = table(cube, "untagged", "all")
        title = f"\n{cube['task']}, {cube['split']}: {cube['metric']} (rows)"
        body = [[name, *map(_cell, cells)] for name, cells in rows]
        print_table(title, ["language", *columns], body)
    if shown:
        print("* zero-shot: no row that the task was trained on had this combination; – no rows")
    if any(cell["zero_shot"] is None for cube in shown for cell in cube["cells"]):
        print("? whether it is zero-shot is not known")


def _cell(cell: Mapping[str, Any] | None) -> str:
    """A cell of the cube in a few letters: `0.912 ±0.013 (120)*`."""
    if cell is None:
        return "–"
    value = "no score" if cell["value"] is None else f"{cell['value']:.3f}"
    if "sd" in cell:
        value += f" ±{cell['sd']:.3f}"
    elif "low" in cell:
        value += f" {cell['low']:.2f}–{cell['high']:.2f}"
    mark = "?" if cell["zero_shot"] is None else "*" if cell["zero_shot"] else ""
    return f"{value} ({cell['rows']}){mark}"


def print_doubt(found: Sequence[Mapping[str, Any]]) -> None:
    """What promises are worth on these rows, for each task that has made some."""
    for one in found:
        place = f"{one['task']}, {one['split']}"
        if one["coverage"]:
            own = ("promised", "kept", "size", "single")
            rows = [["–" if c[k] is None else c[k] for k in own] for c in one["coverage"]]
            columns = ["promised", "holds the truth", "mean size", "of size 1"]
            print_table(f"\n{place}: sets and intervals", columns, rows)
        for note in one["notes"]:
            print(note.partition(";")[0])
        if one["selective"]:
            area = one["selective"]
            print(f"\n{place}: AURC {area['aurc']:.4f} (at best {area['least_aurc']:.4f})")
        shown = [
            [r["promised"], r["answered"], "–" if r["risk"] is None else r["risk"]]
            for r in one["risk"]
        ]
        if shown:
            print_table("", ["errors at most", "share answered", "errors"], shown)
        if one["known"]:
            known = one["known"]
            print(f"{place}: {known['share']:.1%} of the rows are like those learnt")
        if one["cells"]:
            keys = [k for k in one["cells"][0] if k != "promised"]
            body = [["all" if c[k] is None else c[k] for k in keys] for c in one["cells"]]
            print_table(f"\n{place}: by language and domain", keys, body)


def print_worst(errors: Sequence[Mapping[str, Any]], count: int) -> None:
    """The worst errors of each task, so many of each."""
    seen: Counter[str] = Counter()
    rows: list[list[object]] = []
    for item in errors:
        seen[item["task"]] += 1
        if seen[item["task"]] <= count:
            short = (shorten(item[key], n) for key, n in (("truth", 24), ("answer", 24)))
            rows.append([item["task"], item["surprise"], *short, shorten(item["input"], 60)])
    if rows:
        print_table("\nworst errors", ["task", "surprise", "truth", "answer", "input"], rows)


def shorten(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).replace("-", "", 1).isdigit() or cell == "–"
