"""`unmask explain` and `unmask probe`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from unmask.explain import Explanation
    from unmask.explain.result import Attribution

Bundle = Annotated[str, typer.Argument(help="A bundle, a Hugging Face folder or a hub id.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_FOR, _AGAINST = "black on rgb({0},{1},255)", "black on rgb(255,{0},{0})"


def explain(
    bundle: Bundle,
    texts: Annotated[list[str], typer.Argument(help="A text, or the texts of one row.")],
    task: Annotated[str | None, typer.Option(help="Which task (default: the only one)")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="integrated_gradients (default), gradient_input, occlusion, shapley, rollout, or "
            "all; may be repeated"
        ),
    ] = None,
    answer: Annotated[
        str | None, typer.Option(help="Explain this answer (default: the model's own)")
    ] = None,
    by: Annotated[Literal["word", "token"], typer.Option(help="What is scored.")] = "word",
    check: Annotated[bool, typer.Option(help="Measure how faithful the scores are.")] = True,
    neighbours: Annotated[
        int, typer.Option(min=0, help="Show so many of the nearest training rows.")
    ] = 0,
    rows: Annotated[
        Path | None, typer.Option(help="Look for them in this file (default: the recipe's rows)")
    ] = None,
    attention: Annotated[
        bool, typer.Option("--attention", help="With --json, add it by layer and head.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page for the browser: .html")] = None,
    json: Json = False,
) -> None:
    """Say which words of a text speak for an answer, and how far that can be trusted.

    Example: unmask explain runs/demo/bundle --task topic "Who won the match?" --html why.html
    """
    from unmask import progress
    from unmask.cli.output import print_json
    from unmask.cli.tables import check_output, only_task, open_model, read_rows
    from unmask.errors import UserError
    from unmask.explain import explain as run
    from unmask.explain.explain import METHODS, steps

    check_output(html, (".html",))
    if attention and not json:
        raise UserError("--attention is given as data: add --json")
    model = open_model(bundle)
    own = model.task(task or only_task(model))
    given = read_rows(texts, None, [own.options.inputs])
    if len(given) != 1:
        raise UserError("one text is explained at a time; give the others in calls of their own")
    chosen = method or ["integrated_gradients"]
    methods = list(METHODS) if "all" in chosen else chosen
    with progress.bar("explain", steps(methods, check)) as done:
        found = run(
            model, own.name, given[0],
            answer=answer, methods=methods, by=by, check=check, attention=attention, done=done,
        )  # fmt: skip
    if neighbours:
        from unmask.explain.neighbours import nearest
        from unmask.explain.rows import rows_to_search

        near, said = rows_to_search(bundle, own, rows)
        with progress.bar("neighbours", len(near)) as advance:
            found.neighbours = nearest(model, own, given[0], near, neighbours, advance)
        found.notes += said
    if html:
        from unmask.explain.page import render
        from unmask.files import write_text

        write_text(html, render([found]))
        typer.echo(f"wrote {html}", err=True)
    if json:
        print_json(found.model_dump())
    else:
        _show(found)


def probe(
    bundle: Bundle,
    data: Annotated[Path, typer.Argument(help="CSV, JSONL or Parquet with texts and labels.")],
    label: Annotated[str, typer.Option(help="The column of the property.")],
    text: Annotated[str, typer.Option(help="The column of texts, or of lists of words.")] = "text",
    json: Json = False,
) -> None:
    """Say what each layer of a BUNDLE knows of a labelled property of texts, or of words.

    Example: unmask probe runs/demo/bundle rows.csv --label language
    """
    from unmask import progress
    from unmask.cli.output import print_json, print_table
    from unmask.cli.tables import open_model
    from unmask.data.sources import read, require
    from unmask.explain.probe import probe as run
    from unmask.recipe import Source

    model = open_model(bundle)
    rows = read(Source(path=str(data)))
    require(rows, [text, label])
    layers = model.encoder.config.num_layers + 1
    with (
        progress.bar("reading", len(rows)) as advance,
        progress.bar("probing", layers) as done,
    ):
        found = run(model, rows, text, label, advance, done)
    if json:
        print_json(found)
        return
    typer.echo(
        f"{label} of {found['examples']:,} {found['of']}, {found['labels']} labels; the most "
        f"frequent has {found['majority']:.3f}"
    )
    table = [
        [
            "embeddings" if one["layer"] == 0 else f"layer {one['layer']}",
            one["accuracy"],
            f"{one['low']:.3f}–{one['high']:.3f}" if "low" in one else "",
            one["control"],
        ]
        for one in found["layers"]
    ]
    print_table("", ["layer", "accuracy", "95 % interval", "control"], table)


def _show(found: Explanation) -> None:
    """An explanation on the terminal: coloured words, then what was measured."""
    from unmask.cli.output import print_table
    from unmask.explain.words import NAMES

    own = "" if found.own else ", which is not the model's own answer"
    typer.echo(f"{found.task}: {found.answer}{own}")
    typer.echo(f"{found.measure} {found.value:.4g}; {found.blank:.4g} with every word hidden")
    for note in found.notes:
        typer.echo(note, err=True)
    for method in found.methods:
        typer.echo(f"\n{NAMES[method.method]}")
        _paint(found, method)
        order = sorted(range(len(method.scores)), key=lambda i: -abs(method.scores[i]))[:10]
        print_table("", ["score", "word"], [[method.scores[i], found.parts[i].text] for i in order])
        for line in _measured(method):
            typer.echo(line)
    if found.neighbours:
        from unmask.cli.output import shorten

        print_table(
            "\nnearest rows",
            ["cosine", "truth", "text"],
            [[n.cosine, shorten(n.truth, 24), shorten(n.text, 80)] for n in found.neighbours],
        )


def _paint(found: Explanation, method: Attribution) -> None:
    """The words on colours: blue speaks for the answer, red against it."""
    from rich.console import Console
    from rich.text import Text

    from unmask.explain.words import STEPS, coloured

    for side in coloured(found, method):
        line = Text()
        for gap, word, colour, _ in side:
            line.append(gap)
            if not colour:
                line.append(word)
                continue
            faint = 235 - int(colour[1:]) * 150 // (STEPS - 1)
            style = _FOR.format(faint, faint) if colour[0] == "h" else _AGAINST.format(faint)
            line.append(word, style)
        Console(soft_wrap=True).print(line)


def _measured(method: Attribution) -> list[str]:
    """What was measured of an explanation, a line each."""
    lines = []
    if method.error is not None and method.change is not None:
        lines.append(
            f"convergence error {method.error:.2g} of a change of {method.change:.4g} "
            f"({method.passes} points)"
        )
    if (measured := method.faithfulness) is not None:
        for name in ("comprehensiveness", "sufficiency", "deletion_area"):
            value, chance = getattr(measured, name), getattr(measured.chance, name)
            lines.append(f"{name.replace('_', ' ')} {value:.3f} (chance: {chance:.3f})")
    known = {name: r for name, r in method.agreement.items() if r is not None}
    if known:
        said = ", ".join(f"{name} {r:.2f}" for name, r in known.items())
        lines.append(f"rank correlation with {said}")
    if method.random_weights is not None:
        lines.append(f"with weights drawn at random {method.random_weights:.2f}")
    return lines
