"""The figures of docs/, drawn from the JSON in bench/results/.

Run in the peers' environment, which has matplotlib:

    .venv-peers/bin/python bench/draw.py
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

HERE = Path(__file__).parent
RESULTS, FIGURES = HERE / "results", HERE.parent / "docs" / "figures"
LOSS = "held-out loss, nats a hidden token"


def newest(name: str) -> dict[str, Any]:
    """The newest dated result of that name."""
    found: dict[str, Any] = json.loads(sorted(RESULTS.glob(f"{name}-20*.json"))[-1].read_text())
    return found


def plot(axes: Any, curve: Iterable[dict[str, float]], x: str, scale: float, **style: Any) -> None:
    """One curve of held-out loss."""
    looks = list(curve)
    axes.plot([look[x] / scale for look in looks], [look["loss"] for look in looks], **style)


def save(figure: Any, name: str) -> None:
    """Write an SVG that says nothing of when it was drawn."""
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def time_to_loss() -> None:
    """Ours, three seeds, and the peer at its best learning rate, over minutes."""
    found = newest("time-to-loss")
    figure, axes = plt.subplots(figsize=(7, 4))
    for i, curve in enumerate(found["curves"]["ours"]):
        plot(axes, curve, "seconds", 60, color="C0", label=None if i else "unmask, 3 seeds")
    plot(axes, found["curves"]["peer"], "seconds", 60, color="C1", label="Trainer, best rate")
    axes.axhline(min(found["loss"]["peer"].values()), color="grey", linewidth=0.7, linestyle=":")
    axes.set(xlabel="minutes of training", ylabel=LOSS)
    axes.legend(frameon=False)
    save(figure, "time-to-loss")


def optimisers() -> None:
    """AdamW and Muon by the clock."""
    found = newest("ablation-optimiser")
    figure, axes = plt.subplots(figsize=(7, 4))
    for number, (name, curves) in enumerate(found["curves"].items()):
        for i, curve in enumerate(curves):
            plot(axes, curve, "seconds", 60, color=f"C{number}", label=None if i else name)
    axes.set(xlabel="minutes of training", ylabel=LOSS)
    axes.legend(frameon=False)
    save(figure, "optimisers")


def data() -> None:
    """Held-out loss over tokens seen, for parts of the corpus and two sizes."""
    found = newest("ablation-data")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    for number, (name, curves) in enumerate(found["curves"].items()):
        line = "-" if name.startswith("mini") else "--"
        color = f"C{number % (len(found['curves']) // 2)}"
        plot(left, curves[0], "tokens", 1e6, linestyle=line, color=color, label=name)
    for shape, line in (("mini", "-"), ("tiny", "--")):
        ends = {
            1 / int(name.split("1/")[1].split()[0]): loss
            for name, loss in found["ours"].items()
            if name.startswith(shape)
        }
        right.plot(list(ends), list(ends.values()), f"o{line}", color="C0", label=shape)
    left.set(xlabel="million tokens seen", ylabel=LOSS)
    left.legend(frameon=False, fontsize=7)
    right.set(xlabel="share of the corpus", xscale="log")
    right.legend(frameon=False)
    save(figure, "data")


if __name__ == "__main__":
    plt.rcParams |= {"svg.hashsalt": "unmask", "axes.spines.top": False, "axes.spines.right": False}
    for draw in (time_to_loss, optimisers, data):
        draw()
