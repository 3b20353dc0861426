"""One pretraining run of the peer: `transformers`' Trainer with BERT's recipe, at its best here.

Run by `bench/time_to_loss.py` inside the peers' own environment; prints one JSON object.
Texts are laid end to end and cut into blocks of 128 tokens, as its masked-language example does
by default: nothing is padded. bf16 autocast, fused AdamW, linear decay after a warm-up of 6 %.
"""

import argparse
import json
import tempfile
import time
from typing import Any

import numpy as np
import torch
import transformers
from datasets import load_dataset
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)


class Watch(TrainerCallback):
    """The held-out loss every so many steps, outside the clock."""

    def __init__(self, held: dict[str, np.ndarray], every: int) -> None:
        self.held = held
        self.every = every
        self.outside = 0.0
        self.curve: list[dict[str, float]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(
        self, args: Any, state: Any, control: Any, model: Any = None, **more: Any
    ) -> None:
        step = state.global_step
        if self.every and (
            state.global_step % self.every == 0 or state.global_step == args.max_steps
        ):
            now = time.perf_counter()
            loss = held_out_loss(model, self.held)
            self.curve.append({"step": step, "loss": loss})
            self.outside += time.perf_counter() - now


def held_out_loss(model: Any, held: dict[str, np.ndarray]) -> float:
    """Mean loss at the hidden tokens of texts that stand alone, in fp32."""
    model.eval()
    total, count, size = 0.0, 0, 32
    with torch.inference_mode():
        for start in range(0, len(held["lengths"]), size):
            lengths = held["lengths"][start : start + size]
            width = int(lengths.max())
            ids = torch.from_numpy(held["ids"][start : start + size, :width])
            truth = torch.from_numpy(held["truth"][start : start + size, :width])
            mask = (torch.arange(width)[None] < torch.from_numpy(lengths)[:, None]).long()
            logits = model(input_ids=ids, attention_mask=mask).logits
            wanted = truth >= 0
            loss = torch.nn.functional.cross_entropy(logits[wanted], truth[wanted], reduction="sum")
            total += float(loss)
            count += int(wanted.sum())
    model.train()
    return total / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", required=True, help="a tokenizer.json")
    parser.add_argument("--train", required=True, help="Parquet with a column of texts")
    parser.add_argument("--column", default="description")
    parser.add_argument(
        "--held-out", required=True, help=".npz: ids, lengths, truth (-1: not asked)"
    )
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--rows", type=int, default=16, help="blocks of 128 a step")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=0, help="steps between looks; 0: none")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()

    if options.threads:
        torch.set_num_threads(options.threads)
    set_seed(options.seed)
    tokenizer: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=options.tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    rows = load_dataset("parquet", data_files={"train": options.train})["train"]

    def blocks(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        ids = [i for text in tokenizer(batch[options.column])["input_ids"] for i in text]
        whole = len(ids) // 128 * 128
        return {"input_ids": [ids[i : i + 128] for i in range(0, whole, 128)]}

    data = rows.map(blocks, batched=True, remove_columns=rows.column_names)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=-(-len(tokenizer) // 64) * 64,
            num_hidden_layers=options.layers,
            hidden_size=options.width,
            num_attention_heads=options.heads,
            intermediate_size=4 * options.width,
        )
    )
    watch = Watch(dict(np.load(options.held_out)), options.every)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            TrainingArguments(
                folder,
                max_steps=options.steps,
                per_device_train_batch_size=options.rows,
                learning_rate=options.rate,
                warmup_steps=round(0.06 * options.steps),
                weight_decay=0.01,
                seed=options.seed,
                bf16=True,
                optim="adamw_torch_fused",
                use_cpu=not torch.cuda.is_available(),
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_strategy="no",
            ),
            train_dataset=data,
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
            callbacks=[watch],
        )
        trainer.train()
        seconds = time.perf_counter() - watch.began - watch.outside
    result = {
        "blocks": len(data),
        "seconds": seconds,
        "tokens_per_second": options.steps * options.rows * 128 / seconds,
        "weights": sum(p.numel() for p in model.parameters()),
        "curve": watch.curve,
        "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
    }
    print(json.dumps({**vars(options), **result}))


if __name__ == "__main__":
    main()
