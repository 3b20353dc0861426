"""`unmask report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run, or a bundle.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to write: .html (RUN/report.html)")
    ] = None,
    card: Annotated[Path | None, typer.Option(help="Write the model card too: .md")] = None,
    check: Annotated[
        Path | None, typer.Option(help="What `unmask check --json` printed, to be part of it.")
    ] = None,
    examples: Annotated[
        int, typer.Option(min=0, help="Hits and misses of each task to explain, of each so many.")
    ] = 2,
    json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
) -> None:
    """Write all that is known of a RUN into one file that opens anywhere.

    Example: unmask report runs/demo --out demo.html --card CARD.md
    """
    from unmask.cli.output import print_json
    from unmask.cli.tables import check_output
    from unmask.files import write_text
    from unmask.report.card import card as write_card
    from unmask.report.facts import gather
    from unmask.report.page import render

    page = out or run / "report.html"
    check_output(page, (".html",))
    check_output(card, (".md",))
    facts = gather(run, examples, check)
    write_text(page, render(facts))
    typer.echo(f"wrote {page}", err=True)
    if card:
        write_text(card, write_card(facts))
        typer.echo(f"wrote {card}", err=True)
    if json:
        print_json(facts)
