"""Kill a process that does nothing but save, again and again; run by `test_resume.py`.

    python kill_saves.py FOLDER KILLS

After each kill the newest checkpoint must be whole and no older than any seen before.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from unmask.encoder import Encoder, EncoderConfig
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import SPECIAL, wordpiece
from unmask.model import Model
from unmask.recipe import TrainOptions
from unmask.tasks.mlm import Mlm, MlmOptions
from unmask.training import checkpoint
from unmask.training.optimiser import make_optimiser
from unmask.training.processes import Processes


def main() -> None:
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)  # a forked process has no other threads
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("unmask").addHandler(handler)
    text = TextInput(wordpiece({word: i for i, word in enumerate(SPECIAL)}, lowercase=True))
    encoder = Encoder(EncoderConfig(vocab_size=2000, hidden_size=64, num_layers=2, num_heads=2))
    task = Mlm("words", MlmOptions(), text)
    model = Model(encoder, text, {"words": task}, {"words": task.build(encoder)})
    optimiser = make_optimiser(model, TrainOptions())
    dice = random.Random(0)
    step = amid = 0
    checkpoint.save(folder, step, model, optimiser, {"step": step}, Processes())
    for _ in range(kills):
        process = os.fork()
        if process == 0:
            while True:
                step += 1
                checkpoint.save(folder, step, model, optimiser, {"step": step}, Processes())
        time.sleep(dice.uniform(0.005, 0.15))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        amid += any(folder.glob(".step-*"))
        found = checkpoint.newest(folder)
        assert found is not None, "no checkpoint is usable"
        assert not warnings, warnings
        assert found.state["step"] >= step, (found.path, step)
        step = found.state["step"]
    print(json.dumps({"kills": kills, "amid": amid, "step": step}))


if __name__ == "__main__":
    main()
