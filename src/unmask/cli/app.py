"""The command `unmask`: one function a verb."""

from __future__ import annotations

import typer

from unmask.cli import convert, learn, tokenizer, trust, use
from unmask.cli.compare import compare
from unmask.cli.corpus import corpus
from unmask.cli.doctor import doctor
from unmask.cli.explain import explain, probe
from unmask.cli.report import report
from unmask.cli.serve import serve
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
app.command()(compare)
app.command()(twins)
app.command()(shrink)
app.command()(trust.calibrate)
app.command()(trust.check)
app.command()(trust.shift)
app.command()(trust.audit)
app.command()(use.predict)
app.command()(use.write)
app.command()(use.fill)
app.command()(use.embed)
app.command()(use.mine)
app.command()(tune)
app.command()(explain)
app.command()(probe)
app.command()(report)
app.command()(serve)
app.command("import")(convert.import_)
app.command("export")(convert.export_)
app.command()(doctor)
app.add_typer(tokenizer.app, name="tokenizer")
app.add_typer(corpus, name="corpus")
