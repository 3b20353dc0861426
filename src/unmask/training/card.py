"""The model card: what a bundle is, what it was trained on, and what it scored."""

from __future__ import annotations

from collections.abc import Sequence

from unmask.evaluation.scores import Score, figure
from unmask.model import Model
from unmask.recipe import Run


def model_card(
    model: Model, run: Run, found: Sequence[Score], made: str, conflicts: Sequence[str] = ()
) -> str:
    """Markdown for the bundle's README.md; `made` says in what precision, seed and time.

    `conflicts` says of each pair of tasks how their gradients got on, where that was measured.
    """
    config = model.encoder.config
    weights = sum(p.numel() for p in model.parameters())
    lines = [
        "# A bundle made by unmask",
        "",
        f"An encoder of {config.num_layers} layers, {config.hidden_size} wide, with "
        f"{len(model.tasks)} task(s): {weights / 1e6:.1f} million weights, stored as fp32.",
        f"It started from {run.encoder.source or 'nothing: its weights were drawn at random'}.",
        f"Trained {made}; `recipe.yaml` is the recipe with every default written out. (Its paths "
        "are relative to the folder that it was run in.)",
        "",
        "## Tasks",
        "",
    ]
    for name, options in run.tasks.items():
        lines.append(f"- **{name}** (`{options.kind}`), trained on `{options.train.path}`")
    lines += ["", "## Scores", "", "| task | split | language | domain | metric | value | rows |"]
    lines.append("|---|---|---|---|---|---|---|")
    for s in found:
        lines.append(
            f"| {s.task} | {s.split} | {s.language or 'all'} | {s.domain or 'all'} | {s.metric} "
            f"| {figure(s.record())} | {s.rows} |"
        )
    if not found:
        lines.append("| – | no rows were held out to score | | | | | |")
    if conflicts:
        lines += ["", "## Tasks against one another", "", "Gradients on the shared encoder:", ""]
        lines += [f"- {line}" for line in conflicts]
    lines += [
        "",
        "Scores are of this recipe's own rows, in fp32, with 95 % intervals from resampling them. "
        "How the model does on other text is not known until it is measured there: "
        "`unmask eval BUNDLE --recipe RECIPE`.",
        "",
    ]
    return "\n".join(lines)
