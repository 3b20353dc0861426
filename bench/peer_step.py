"""Pretraining steps of the peer, `transformers`' BertForMaskedLM, timed on given batches.

Run by `bench/pretrain.py` inside the peers' own environment; prints one JSON object. The tensors
are made before the clock starts: no tokenisation or collation is counted.
"""

import json
import resource
import time
from contextlib import nullcontext

import numpy as np
import torch
import transformers
from step_options import step_parser
from transformers import BertConfig, BertForMaskedLM


def main() -> None:
    parser = step_parser(__doc__)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--fused", action="store_true", help="fused AdamW")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()

    torch.manual_seed(0)
    model: torch.nn.Module = BertForMaskedLM(
        BertConfig(
            vocab_size=options.vocabulary,
            num_hidden_layers=options.layers,
            hidden_size=options.width,
            num_attention_heads=options.heads,
            intermediate_size=4 * options.width,
        )
    )
    model.train()
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=1e-4, weight_decay=0.01, fused=options.fused or None
    )
    run = torch.compile(model) if options.compile else model
    batches = np.load(options.batches)
    all_ids, all_truth = torch.from_numpy(batches["ids"]), torch.from_numpy(batches["truth"])
    seconds, losses = [], []
    for ids, truth in zip(all_ids, all_truth, strict=True):
        began = time.perf_counter()
        autocast = torch.autocast("cpu", torch.bfloat16) if options.bf16 else nullcontext()
        with autocast:
            loss = run(input_ids=ids, labels=truth).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
        seconds.append(time.perf_counter() - began)
    print(
        json.dumps(
            {
                "seconds": seconds,
                "losses": losses,
                "tokens": all_ids[0].numel(),
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
            }
        )
    )


if __name__ == "__main__":
    main()
