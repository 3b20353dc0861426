"""`unmask calibrate`, `unmask check`, `unmask shift`, `unmask audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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
