"""One run of the peer on questions: `transformers`' Trainer, windows and n-best as is usual.

Run by `bench/against.py` inside the peers' own environment; prints one JSON object. Windows of 384
tokens that overlap by 128; start and end by cross-entropy, a window without the answer points at
[CLS]; the best of the 20 best starts and ends of all windows, at most 30 tokens long.
"""

import argparse
import json
import tempfile
import time
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset, load_dataset
from peer_machine import has_bf16
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

LENGTH, STRIDE, BEST, LONGEST = 384, 128, 20, 30


def windows(tokenizer: Any, rows: Any) -> Any:
    """Features of rows in their overlapping windows, with the row and the offsets of each."""
    return tokenizer(
        rows["question"],
        rows["context"],
        truncation="only_second",
        max_length=LENGTH,
        stride=STRIDE,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )


def to_learn(tokenizer: Any, rows: Any) -> dict[str, Any]:
    """Features with the tokens that the first answer begins and ends with."""
    found = windows(tokenizer, rows)
    owners = found.pop("overflow_to_sample_mapping")
    offsets = found.pop("offset_mapping")
    starts, ends = [], []
    for i, (owner, places) in enumerate(zip(owners, offsets, strict=True)):
        answer = rows["answers"][owner][0]
        begin, end = answer["start"], answer["start"] + len(answer["text"])
        inside = [t for t, side in enumerate(found.sequence_ids(i)) if side == 1]
        cls = found["input_ids"][i].index(tokenizer.cls_token_id)
        if places[inside[0]][0] > begin or places[inside[-1]][1] < end:
            starts.append(cls)
            ends.append(cls)
        else:
            starts.append(max(t for t in inside if places[t][0] <= begin))
            ends.append(min(t for t in inside if places[t][1] >= end))
    return {**found, "start_positions": starts, "end_positions": ends}


def answers(trainer: Any, tokenizer: Any, rows: Any) -> list[str]:
    """The best answer of each row, over all its windows."""
    found = windows(tokenizer, rows.to_dict())
    owners, offsets = found.pop("overflow_to_sample_mapping"), found.pop("offset_mapping")
    sides = [found.sequence_ids(i) for i in range(len(owners))]
    start, end = trainer.predict(Dataset.from_dict(dict(found))).predictions
    best = [("", -np.inf)] * len(rows)
    for i, owner in enumerate(owners):
        text, inside = rows[owner]["context"], np.array([side == 1 for side in sides[i]])
        n = len(inside)
        s = np.where(inside, start[i][:n], -np.inf)
        e = np.where(inside, end[i][:n], -np.inf)
        for a in np.argsort(s)[::-1][:BEST]:
            for b in np.argsort(e)[::-1][:BEST]:
                if a <= b < a + LONGEST and s[a] + e[b] > best[owner][1]:
                    best[owner] = (text[offsets[i][a][0] : offsets[i][b][1]], s[a] + e[b])
    return [text for text, _ in best]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a folder in the Hugging Face layout")
    parser.add_argument("--train", required=True, help="Parquet: question, context, answers")
    parser.add_argument("--test", required=True)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--batch", type=int, default=8, help="windows an update")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    set_seed(options.seed)
    rows = load_dataset("parquet", data_files={"train": options.train, "test": options.test})
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    train = rows["train"].map(
        lambda batch: to_learn(tokenizer, batch),
        batched=True,
        remove_columns=rows["train"].column_names,
    )
    model = AutoModelForQuestionAnswering.from_pretrained(options.model, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            TrainingArguments(
                folder,
                num_train_epochs=options.epochs,
                per_device_train_batch_size=options.batch,
                per_device_eval_batch_size=32,
                learning_rate=options.rate,
                warmup_steps=0.1,
                seed=options.seed,
                bf16=has_bf16(),
                optim="adamw_torch_fused",
                train_sampling_strategy="group_by_length",
                use_cpu=not torch.cuda.is_available(),
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_strategy="no",
            ),
            train_dataset=train,
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        began = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - began
        trainer.args.train_sampling_strategy = "random"  # else predict() reorders too
        found = answers(trainer, tokenizer, rows["test"])
    result = {
        "seconds": seconds,
        "answers": found,
        "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
    }
    print(json.dumps({**vars(options), **result}))


if __name__ == "__main__":
    main()
