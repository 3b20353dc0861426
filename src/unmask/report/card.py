"""The model card, of the same facts as the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unmask.evaluation.scores import figure


def card(facts: Mapping[str, Any]) -> str:
    """Markdown: what the model is, what it learnt from, its scores, its limits, its cost."""
    model = facts["model"]
    lines = [
        f"# {facts['run']}",
        "",
        f"An encoder of {model['layers']} layers, {model['width']} wide, with "
        f"{len(model['tasks'])} task(s): {model['weights'] / 1e6:.1f} million weights, "
        f"started from {model['from'] or 'nothing: its weights were drawn at random'}. "
        f"It reads texts of up to {model['max_length']} tokens.",
        "",
        f"sha256 of its weights: `{facts['weights']}`",
        "",
        "## Tasks",
        "",
        *(
            f"- **{one['task']}** (`{one['kind']}`), trained on `{one['trained']}`"
            for one in model["tasks"]
        ),
        "",
        "## Scores",
        "",
        "| task | split | language | domain | metric | value | rows |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {s['task']} | {s['split']} | {s['language'] or 'all'} | {s['domain'] or 'all'} | "
            f"{s['metric']} | {figure(s)} | {s['rows']} |"
            for s in facts["found"]["scores"]
        ),
        "",
    ]
    if facts["behaviour"]:
        lines += ["## Where it breaks", "", "| test | language | failures | of | share |"]
        lines.append("|---|---|---|---|---|")
        for t in facts["behaviour"]["tests"]:
            lines.append(
                f"| {t['name']} | {t['language']} | {t['failures']} | {t['cases']} | "
                f"{t['rate']:.3f} ({t['low']:.3f}–{t['high']:.3f}) |"
            )
        lines.append("")
    if facts["cost"]:
        cost = facts["cost"]
        lines += [
            "## Cost",
            "",
            f"{cost['steps']:,} updates of {cost['tokens']:,} tokens in all, in "
            f"{cost['seconds'] / 60:.1f} minutes.",
            "",
        ]
    notes = [*facts["found"]["notes"], *facts["notes"]]
    if notes:
        lines += ["## What to know", "", *(f"- {note}" for note in notes), ""]
    lines += [
        "## How to make it again",
        "",
        "`unmask train recipe.yaml`, with the recipe of its bundle "
        f"(seed {facts['seed']}; unmask {facts['versions']['unmask']}, "
        f"torch {facts['versions']['torch']}).",
        "",
    ]
    return "\n".join(lines)
