"""Pretraining steps of ours, timed on given batches; run by `bench/pretrain.py`.

The very functions that the training loop calls, collation included.
"""

from __future__ import annotations

import json
import resource
import time

import numpy as np
import torch
from step_options import step_parser

from unmask.batch import Example, Segment, Sequence
from unmask.encoder import Encoder, EncoderConfig
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import SPECIAL, wordpiece
from unmask.machine.memory import reuse_freed_memory
from unmask.machine.threads import use_available_cpus
from unmask.model import Model
from unmask.recipe import TrainOptions
from unmask.tasks.mlm import Mlm, MlmOptions
from unmask.training.optimiser import make_optimiser
from unmask.training.processes import Processes
from unmask.training.stream import Chunk
from unmask.training.update import apply, gradient


def main() -> None:
    """Time the steps, and print one JSON object."""
    parser = step_parser(__doc__)
    parser.add_argument("--profile", action="store_true", help="where the time goes, by operation")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
    options = parser.parse_args()

    use_available_cpus()
    reuse_freed_memory()
    torch.manual_seed(0)
    encoder = Encoder(
        EncoderConfig(
            vocab_size=options.vocabulary,
            num_layers=options.layers,
            hidden_size=options.width,
            num_heads=options.heads,
            intermediate_size=4 * options.width,
        )
    )
    text = TextInput(wordpiece({word: i for i, word in enumerate(SPECIAL)}, lowercase=True))
    task = Mlm("words", MlmOptions(), text)
    model = Model(encoder, text, {"words": task}, {"words": task.build(encoder)})
    model.precision = options.precision
    train = TrainOptions(learning_rate=1e-4, head_learning_rate=1e-4, weight_decay=0.01)
    optimiser = make_optimiser(model, train)
    batches = np.load(options.batches)

    def examples(step: int) -> list[Example]:
        found = []
        for ids, truth in zip(batches["ids"][step], batches["truth"][step], strict=True):
            wanted = np.flatnonzero(truth >= 0)
            sequence = Sequence((Segment(ids),))
            found.append(Example((sequence,), (wanted,), {"token": truth[wanted]}))
        return found

    seconds: list[float] = []
    losses: list[float] = []

    def step(number: int) -> None:
        began = time.perf_counter()
        chunk = Chunk("words", examples(number), 0)
        found = gradient(model, [chunk], train, number, Processes())
        apply(optimiser, found, train)
        optimiser.zero_grad()
        losses.append(found.losses["words"])
        seconds.append(time.perf_counter() - began)

    steps = len(batches["ids"])
    where = []
    for number in range(steps):
        step(number)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if options.profile:
        with torch.profiler.profile() as profile:
            for number in range(3):
                step(number)
        table = profile.key_averages()
        total = sum(event.self_cpu_time_total for event in table)
        where = sorted(
            ([event.key, event.self_cpu_time_total / total] for event in table),
            key=lambda pair: -pair[1],
        )
    print(
        json.dumps(
            {
                "seconds": seconds[:steps],
                "losses": losses[:steps],
                "tokens": int(batches["ids"][0].size),
                "peak_memory_mb": peak,
                "profile": where[:25],
            }
        )
    )


if __name__ == "__main__":
    main()
