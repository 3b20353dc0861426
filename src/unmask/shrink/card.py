"""What shrinking did, in words: for the model card and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unmask.evaluation.scores import figure


def shrunk_card(
    record: Mapping[str, Any], scores: Sequence[Mapping[str, Any]], original: str
) -> str:
    """Markdown for the README.md of a shrunk bundle; the original's card stands behind it."""
    lines = [
        "# A bundle made smaller by unmask",
        "",
        f"Made from `{record['original']}` by: {', '.join(record['steps'])}. `shrink.json` has "
        "all that was measured.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(row) + " |" for row in table(record["figures"])),
        "",
        f"Measured on {record['cores']} core(s). It runs as {record['form']}, with weights stored "
        f"in {record['stored']}. Differences are from the original on the same rows, with 95 % "
        "intervals from resampling them.",
        *early(record["figures"][-1]),
    ]
    if scores:
        lines += ["", "## Scores", "", "| task | split | language | metric | value | rows |"]
        lines.append("|---|---|---|---|---|---|")
        for s in scores:
            lines.append(
                f"| {s['task']} | {s['split']} | {s['language'] or 'all'} | {s['metric']} | "
                f"{figure(s)} | {s['rows']} |"
            )
    if original:
        lines += ["", "## The card of the original", "", _deeper(original)]
    return "\n".join(lines) + "\n"


def early(figures: Mapping[str, Any]) -> list[str]:
    """What early exits promise and do, as a paragraph; nothing where there are none."""
    found = figures.get("exits")
    if found is None:
        return []
    behind = (f"{share:.0%} behind layer {i}" for i, share in enumerate(found["left"], 1) if share)
    return [
        "",
        f"Of task {found['task']} answers come early: to rows like the {found['rows']} validation "
        f"rows at least {found['promised']:g} of them are what all layers would say, with "
        f"certainty {found['certainty']:g}. Of {found['compared']} {found['split']} rows "
        f"{found['same']:.4f} were the same, with {found['layers']:.0%} of the layers computed "
        f"({', '.join(behind)}), {found['faster']:.2f} × as fast as with all of them. Such answers "
        "do not say whether a text is known. In the table, the speed is of answers.",
    ]


COLUMNS = ("step", "MB", "texts/s", "faster", "ms", "score", "difference")


def table(figures: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row for each step and task, as texts."""
    rows = []
    for one in figures:
        speed = ["–"] * 3
        if "faster" in one:
            speed = [f"{one['texts_per_second']:.1f}", f"{one['faster']:.2f} ×"]
            speed.append(f"{one['milliseconds']:.2f}")
        start = [one["step"], f"{one['bytes'] / 1e6:.2f}", *speed]
        for number, score in enumerate(one["scores"]):
            shown = [f"{score['task']} {score['metric']} {_number(score['value'])}"]
            shown.append(_difference(score) if one["step"] != "original" else "")
            rows.append([*(start if not number else [""] * len(start)), *shown])
        if not one["scores"]:
            rows.append([*start, "no rows to score", ""])
    return rows


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _difference(score: Mapping[str, Any]) -> str:
    if score["difference"] is None:
        return "–"
    bounds = ""
    if score["low"] is not None:
        bounds = f" ({score['low']:+.4f} to {score['high']:+.4f})"
    return f"{score['difference']:+.4f}{bounds}"


def _deeper(card: str) -> str:
    """Its headings one level lower, as it stands below one."""
    lines = card.splitlines()
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in lines)
