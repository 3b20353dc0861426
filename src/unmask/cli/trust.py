"""`unmask calibrate`, `unmask check`, `unmask shift`, `unmask audit`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Html = Annotated[Path | None, typer.Option(help="Write a page for the browser: .html")]


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    out: Annotated[Path, typer.Argument(help="Where to write the bundle that it becomes.")],
    recipe: Annotated[
        Path | None, typer.Option(help="Whose `valid` rows to fit to (default: its own)")
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16"], typer.Option(help="What answers will be computed in.")
    ] = "fp32",
    json: Json = False,
) -> None:
    """Fit what BUNDLE says of its answers to validation rows anew: probabilities, promises, doubt.

    For rows of another kind than those it was fitted to, or another precision.

    Example: unmask calibrate runs/demo/bundle calibrated --recipe tweets.yaml
    """
    from unmask.cli.output import print_json, print_table
    from unmask.evaluation.refit import refit

    found = refit(bundle, out, recipe, precision)
    if json:
        print_json({"bundle": str(out), "tasks": found})
        return
    keys = ("form", "rows", "temperature", "promises", "known")
    print_table("", ["task", *keys], [[name, *map(one.get, keys)] for name, one in found.items()])
    typer.echo(f"wrote {out}")


def check(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    task: Annotated[str | None, typer.Option(help="Which task (default: the only one)")] = None,
    language: Annotated[
        str | None, typer.Option(help="Only this one: de, en or zh (default: those of the rows)")
    ] = None,
    input: Annotated[
        Path | None, typer.Option("--input", help="Rows to change (default: its held-out ones)")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Rows of each language, at most.")] = 200,
    positive: Annotated[str | None, typer.Option(help="The label that means good.")] = None,
    negative: Annotated[str | None, typer.Option(help="The label that means bad.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what is changed where.")] = 0,
    html: Html = None,
    json: Json = False,
) -> None:
    """Test how a task of BUNDLE behaves when texts change: typos, names, negation, and the like.

    Example: unmask check runs/sst2/bundle --html behaviour.html
    """
    from unmask.cli.output import print_json, print_table, shorten
    from unmask.cli.tables import check_output
    from unmask.trust.check import check as run

    check_output(html, (".html",))
    found = run(bundle, task, language, input, count, positive, negative, seed)
    if html:
        from unmask.evaluation.page.check import render
        from unmask.files import write_text

        write_text(html, render(found))
        typer.echo(f"wrote {html}", err=True)
    if json:
        print_json(found)
        return
    print_table(
        "",
        ["type", "test", "language", "failures", "of", "share", "95 % interval"],
        [
            [t["type"], t["name"], t["language"], t["failures"], t["cases"], t["rate"],
             f"{t['low']:.3f}–{t['high']:.3f}"]
            for t in found["tests"]
        ],
    )  # fmt: skip
    for one in found["curves"]:
        points = [[p["typos"], p["score"]] for p in one["points"]]
        title = f"\n{one['metric']} against typos, {one['language']}, {one['rows']} rows"
        print_table(title, ["typos", one["metric"]], points)
    shown: list[list[object]] = []
    for test in found["tests"]:
        for e in test["examples"][:2]:
            answers = e["after"] if e["before"] is None else f"{e['before']} → {e['after']}"
            shown.append([test["name"], shorten(e["changed"], 90), answers, e["expected"]])
    if shown:
        print_table("\nfailures", ["test", "text", "answer", "expected"], shown)


def shift(
    first: Annotated[Path, typer.Argument(help="Rows, as those that a model was trained on.")],
    second: Annotated[Path, typer.Argument(help="Other rows.")],
    bundle: Annotated[
        str | None, typer.Option(help="Whose vectors of the texts to compare too.")
    ] = None,
    text: Annotated[str, typer.Option(help="The text column of both.")] = "text",
    label: Annotated[str, typer.Option(help="The label column, where both have it.")] = "label",
    seed: Annotated[int, typer.Option(min=0, help="Of which rows are looked at.")] = 0,
    json: Json = False,
) -> None:
    """Say how the rows of FIRST and SECOND differ: words, lengths, labels, kinds of text.

    Example: unmask shift train.csv march.csv --bundle runs/demo/bundle
    """
    from unmask.cli.output import print_json, print_table
    from unmask.trust.shift import shift as run

    found = run(first, second, bundle, text, label, seed)
    if json:
        print_json(found)
        return
    print_table(
        f"{first} ({found['rows'][0]} rows) and {second} ({found['rows'][1]} rows)",
        ["", "distance", "chance, at most", "p", "says"],
        [
            [name, d["distance"], d["by_chance"], d["p"], d["says"]]
            for name, d in found["distances"].items()
        ],
    )
    if (told := found.get("classifier")) and told["auc"] is not None:
        typer.echo(f"AUC of a classifier that tells one from the other: {told['auc']:.3f}; "
                   f"{told['says']}")  # fmt: skip
    new = found["words"]["new_in_second"]
    typer.echo(f"{new:.1%} of the words of {second} are not in {first}")
    for side, path in (("first", first), ("second", second)):
        told_by = ", ".join(one["word"] for one in found["words"][side])
        typer.echo(f"words that tell {path}: {told_by}")
    for note in found["notes"]:
        typer.echo(note, err=True)


def audit(
    source: Annotated[Path, typer.Argument(help="A recipe, or a bundle with its own.")],
    task: Annotated[str | None, typer.Option(help="Only this one (default: all)")] = None,
    near: Annotated[
        float, typer.Option(min=0.5, max=1, help="How alike rows are that count as near.")
    ] = 0.8,
    count: Annotated[int, typer.Option(min=1, help="Rows of each finding to print.")] = 10,
    json: Json = False,
) -> None:
    """Look for rows of a recipe that leak from training into test, and for labels to doubt.

    Example: unmask audit recipe.yaml
    """
    from unmask.cli.output import print_json, shorten
    from unmask.trust.audit import audit as run

    found = run(source, near, task)
    if json:
        print_json(found)
        return
    for own in found["tasks"]:
        name = own["task"]
        for leak in own["leaks"]:
            typer.echo(f"{name}, {leak['split']}: of {leak['rows']} rows {leak['same']} also stand "
                       f"in the training rows, and {leak['near']} nearly")  # fmt: skip
            _print_some("", ["row", "like row", "similarity", "text"], [
                [_place(one), _place(one["like"]), one["similarity"], shorten(one["text"], 80)]
                for one in leak["listed"][:count]
            ])  # fmt: skip
        _print_some(f"\n{name}: one text, several labels", ["labels", "rows", "text"], [
            [", ".join(f"{k} ({n})" for k, n in clash["labels"].items()),
             ", ".join(map(_place, clash["rows"][:3])), shorten(clash["text"], 60)]
            for clash in own["clashes"][:count]
        ])  # fmt: skip
        if labels := own["labels"]:
            typer.echo(f"\n{name}: {labels['doubted']} of {labels['rows']} labels are doubted")
            _print_some("", ["row", "label", "perhaps", "likelier by", "text"], [
                [_place(one), one["label"], one["instead"], one["other"] - one["own"],
                 shorten(one["text"], 60)]
                for one in labels["listed"][:count]
            ])  # fmt: skip
        for note in own["notes"]:
            typer.echo(f"{name}: {note}", err=True)
    typer.echo(f"labels were judged by the vectors of {found['vectors']}; all rows: --json")


def _print_some(title: str, columns: list[str], rows: list[list[object]]) -> None:
    """A table, if there is anything in it."""
    from unmask.cli.output import print_table

    if rows:
        print_table(title, columns, rows)


def _place(row: Mapping[str, Any]) -> str:
    """A row as `train.csv:17`."""
    return f"{Path(row['file']).name}:{row['row']}"
