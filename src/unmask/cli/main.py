"""The command `unmask`: one function a verb, and one line for a user's mistake."""

from __future__ import annotations

import logging
import sys

import typer

from unmask.cli import convert, learn, use
from unmask.errors import UserError

app = typer.Typer(
    name="unmask",
    help="The whole life of a BERT-family encoder: load, train, evaluate, predict, convert.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(learn.init)
app.command()(learn.train)
app.command("eval")(learn.evaluate)
app.command()(use.predict)
app.command()(use.fill)
app.command()(use.embed)
app.command("import")(convert.import_)
app.command("export")(convert.export)


def main() -> None:
    """Run the command; exit code 2 for a user's mistake, 130 for Ctrl-C."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("unmask").setLevel(logging.INFO)
    try:
        app()
    except UserError as error:
        print(f"unmask: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        print("unmask: stopped; nothing half-written was left behind", file=sys.stderr)
        sys.exit(130)
