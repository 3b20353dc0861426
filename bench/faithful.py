"""Does hiding what an explanation points at change the answer, more than attention or chance do?

    UNMASK_DATA=… .venv/bin/python bench/faithful.py              # fine-tunes recipes/sst2.yaml
    … bench/faithful.py --bundle runs/sst2/bundle                 # or as it was trained before

Comprehensiveness (DeYoung et al., arXiv:1911.03429) of held-out film reviews: by how much the
probability of the answer falls when the fifth of the tokens with the highest scores is hidden. Ours
are the methods of `unmask explain`; beside them attention, as followed through all layers and as
the last layer pays it from the pooled position, and orders drawn by chance. Of each the mean over
the texts, and ours against each by a paired bootstrap. Results go to bench/results/faithful.json.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
from machine import machine, versions
from results import RESULTS

import unmask
from unmask.data.splits import split_rows
from unmask.evaluation.held import last_run
from unmask.explain.attention import attention
from unmask.explain.explain import METHODS, game_of
from unmask.explain.game import Game
from unmask.model import Model

RECIPE = Path(__file__).parent.parent / "recipes" / "sst2.yaml"
TASK = "sentiment"
SHARE = 0.2
OURS = "integrated_gradients"
CHANCE = 8  # orders


def last_layer(game: Game) -> np.ndarray:
    """The mean over heads of what the first position pays to each, in the last layer: (n,)."""
    return game.gather(np.concatenate([table[-1, :, 0].mean(0) for table in attention(game)]))


def falls(model: Model, text: str, seed: int) -> dict[str, float]:
    """By how much the answer's probability falls without the first fifth, by each order."""
    game, _ = game_of(model, TASK, text, None, "token")
    n = len(game.parts)
    k = max(math.ceil(SHARE * n - 1e-9), 1)

    def fall(order: np.ndarray) -> float:
        kept = np.ones((1, n))
        kept[0, np.argsort(-order, kind="stable")[:k]] = 0
        return game.whole[1] - float(game.ask(kept)[0, 1])

    scores = {name: method(game).scores for name, method in METHODS.items()}
    scores["attention of the last layer"] = last_layer(game)
    rng = np.random.default_rng(seed)
    found = {name: fall(own) for name, own in scores.items()}
    found["chance"] = float(np.mean([fall(rng.random(n)) for _ in range(CHANCE)]))
    return found


def main() -> None:
    """Train unless a bundle is given, explain, print a line a way, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("changes", nargs="*", help="key=value, as in `unmask train`")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.bundle:
            bundle, model = options.bundle, unmask.load(options.bundle)
        else:
            trained = unmask.train(RECIPE, Path(folder) / "run", options.changes)
            bundle, model = trained.bundle, trained.model
        run = last_run(bundle / "recipe.yaml")
    rows = split_rows(TASK, run.tasks[TASK], run.train.seed).test
    if rows is None:
        raise SystemExit(f"task {TASK} has no test rows")
    order = np.random.default_rng(0).permutation(len(rows))[: options.texts]
    each = [falls(model, rows[int(i)]["text"], int(i)) for i in order]
    table = {name: np.array([one[name] for one in each]) for name in each[0]}
    drawn = np.random.default_rng(0).integers(len(each), size=(2000, len(each)))
    found = {}
    for name, values in table.items():
        gain = table[OURS] - values
        low, high = np.quantile(gain[drawn].mean(1), (0.025, 0.975))
        found[name] = {
            "comprehensiveness": float(values.mean()),
            "ours less this": float(gain.mean()),
            "low": float(low),
            "high": float(high),
        }
        print(
            f"{name}: {values.mean():.4f}; {OURS} is {gain.mean():+.4f} "
            f"({low:+.4f} … {high:+.4f}) beside it"
        )
    result = {
        "ours": found[OURS]["comprehensiveness"],
        "unit": f"fall of the answer's probability without {SHARE:.0%} of the tokens",
        "ways": found,
        "texts": len(each),
        "changes": options.changes,
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
    }
    (RESULTS / "faithful.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
