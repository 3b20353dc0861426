"""One fine-tuning run of the peer: `transformers`' Trainer as its documentation shows it.

Run by `bench/finetune.py` and `bench/against.py` in the peers' own environment; prints one JSON
object.
Dynamic padding to the longest text of a batch, batches of 32 rows in random order: its defaults.
"""

import argparse
import json
import tempfile
import time

import numpy as np
import torch
import transformers
from datasets import load_dataset
from peer_machine import has_bf16
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a folder in the Hugging Face layout")
    parser.add_argument("--train", required=True, help="Parquet with columns text and label")
    parser.add_argument("--test", required=True)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--steps", type=int, default=-1, help="stop after this many updates")
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--fused", action="store_true", help="fused AdamW")
    parser.add_argument("--group", action="store_true", help="group rows of similar length")
    parser.add_argument("--values", type=json.loads, help="numbers of the labels: a regression")
    options = parser.parse_args()

    set_seed(options.seed)
    rows = load_dataset("parquet", data_files={"train": options.train, "test": options.test})
    names = sorted({str(label) for label in rows["train"]["label"]})
    ids = options.values or {name: i for i, name in enumerate(names)}
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    encoded = rows.map(
        lambda batch: {
            **tokenizer(batch["text"], truncation=True),
            "labels": [ids[str(label)] for label in batch["label"]],  # floats: a regression
        },
        batched=True,
        remove_columns=rows["train"].column_names,
    )
    tokens_per_row = float(np.mean([len(x) for x in encoded["train"]["input_ids"]]))
    width = 1 if options.values else len(names)  # one: the Trainer's loss is the squared error
    model = AutoModelForSequenceClassification.from_pretrained(
        options.model, num_labels=width, dtype=torch.float32
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            TrainingArguments(
                folder,
                num_train_epochs=options.epochs,
                max_steps=options.steps,
                per_device_train_batch_size=32,
                per_device_eval_batch_size=64,
                learning_rate=options.rate,
                seed=options.seed,
                bf16=options.bf16 and has_bf16(),
                optim="adamw_torch_fused" if options.fused else "adamw_torch",
                train_sampling_strategy="group_by_length" if options.group else "random",
                use_cpu=not torch.cuda.is_available(),
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_strategy="no",
            ),
            train_dataset=encoded["train"],
            eval_dataset=encoded["test"],
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        began = time.perf_counter()
        done = trainer.train()
        seconds = time.perf_counter() - began
        result = {
            "seconds": seconds,
            "steps": done.global_step,
            "tokens_per_row": tokens_per_row,
            "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
        }
        if options.steps < 0:
            trainer.args.train_sampling_strategy = "random"  # else predict() reorders too
            logits = np.asarray(trainer.predict(encoded["test"]).predictions)
            if options.values:
                result["numbers"] = logits[:, 0].tolist()
            else:
                right = logits.argmax(-1) == np.array(encoded["test"]["labels"])
                result["right"] = [int(x) for x in right]
                result["accuracy"] = float(right.mean())
    print(json.dumps({**vars(options), **result}))


if __name__ == "__main__":
    main()
