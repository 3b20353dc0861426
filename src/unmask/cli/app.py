"""The command `unmask`: one function a verb."""

from __future__ import annotations

import typer

from unmask.cli import convert, learn, tokenizer, use
from unmask.cli.corpus import corpus
from unmask.cli.shrink import shrink
from unmask.cli.tune import tune
from unmask.cli.twins import twins

app = typer.Typer(
    name="unmask",
    help="The whole life of a BERT-family encoder: load, train, evaluate, predict, convert.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its markup would swallow [MASK]
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(learn.init)
app.command()(learn.train)
app.command("eval")(learn.evaluate)
app.command()(twins)
app.command()(shrink)
app.command()(use.predict)
app.command()(use.write)
app.command()(use.fill)
app.command()(use.embed)
app.command()(use.mine)
app.command()(tune)
app.command("import")(convert.import_)
app.command("export")(convert.export_)
app.add_typer(tokenizer.app, name="tokenizer")
app.add_typer(corpus, name="corpus")
