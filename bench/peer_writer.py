"""An encoder–decoder of `transformers` that translates, for `bench/generate.py`: trains, or writes.

BART's layout with as many weights in its layers as our encoder has: half as many layers on each
side, of the same width. The tokenizer is that of our bundle. It trains with the Trainer in its
fastest setting here (bf16 where the machine has it, fused AdamW, rows grouped by length) under
label smoothing 0.1 and dropout 0.3. Runs in the peers' own environment; prints one JSON object.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import load_dataset
from peer_machine import has_bf16
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerFast,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    set_seed,
)


def read_tokenizer(file: str) -> Any:
    made: Any = PreTrainedTokenizerFast
    return made(
        tokenizer_file=file,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        bos_token="[CLS]",
        eos_token="[SEP]",
        model_max_length=128,
    )


def train(options: argparse.Namespace) -> dict[str, Any]:
    """A new model, saved to the folder."""
    set_seed(options.seed)
    tokenizer = read_tokenizer(options.tokenizer)
    half = options.layers // 2
    model = BartForConditionalGeneration(
        BartConfig(
            vocab_size=-(-len(tokenizer) // 64) * 64,
            d_model=options.width,
            encoder_layers=half,
            decoder_layers=half,
            encoder_attention_heads=options.width // 64,
            decoder_attention_heads=options.width // 64,
            encoder_ffn_dim=4 * options.width,
            decoder_ffn_dim=4 * options.width,
            max_position_embeddings=256,
            dropout=0.3,
            attention_dropout=0.1,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
            decoder_start_token_id=tokenizer.cls_token_id,
            forced_eos_token_id=None,
        )
    )
    rows = load_dataset("parquet", data_files={"train": options.train})["train"]
    rows = rows.map(
        lambda batch: {
            **tokenizer(batch[options.source], truncation=True),
            "labels": [
                ids[1:] for ids in tokenizer(batch[options.target], truncation=True).input_ids
            ],
        },
        batched=True,
        remove_columns=rows.column_names,
    )
    trainer = Seq2SeqTrainer(
        model,
        Seq2SeqTrainingArguments(
            options.folder,
            num_train_epochs=options.epochs,
            max_steps=options.steps,
            per_device_train_batch_size=options.batch,
            learning_rate=options.rate,
            warmup_steps=0.05,
            label_smoothing_factor=0.1,
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
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model),
    )
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    model.save_pretrained(options.folder)
    weights = sum(p.numel() for p in model.parameters())
    return {"seconds": seconds, "weights": weights}


def write(options: argparse.Namespace) -> dict[str, Any]:
    """The texts of a file, one JSON list, in batches of similar length."""
    tokenizer = read_tokenizer(options.tokenizer)
    precision = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.precision]
    model: Any = BartForConditionalGeneration.from_pretrained(options.folder, dtype=precision)
    model.eval()
    texts = json.loads(Path(options.write).read_text())
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    written: dict[int, str] = {}
    tokens = 0

    def some(numbers: list[int]) -> None:
        nonlocal tokens
        batch = tokenizer([texts[i] for i in numbers], padding=True, return_tensors="pt")
        batch.pop("token_type_ids", None)
        found = model.generate(
            **batch, num_beams=options.beams, do_sample=False, max_new_tokens=options.longest
        )
        for i, ids in zip(numbers, found.tolist(), strict=True):
            own = [t for t in ids[1:] if t not in tokenizer.all_special_ids]
            tokens += len(own)
            written[i] = tokenizer.decode(own)

    with torch.inference_mode():
        some(order[:4])  # what is slow only once
        tokens = 0
        began = time.perf_counter()
        for start in range(0, len(order), options.batch):
            some(order[start : start + options.batch])
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "tokens": tokens, "texts": [written[i] for i in range(len(texts))]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="of the model")
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json")
    parser.add_argument("--train", help="Parquet to learn from; else it writes")
    parser.add_argument("--write", help="a JSON list of sources")
    parser.add_argument("--source", default="en")
    parser.add_argument("--target", default="de")
    parser.add_argument("--layers", type=int, default=4, help="of both sides together")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--epochs", type=float, default=50)
    parser.add_argument("--steps", type=int, default=-1)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=120)
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--longest", type=int, default=80)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of writing")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = train(options) if options.train else write(options)
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    print(json.dumps({**found, "versions": versions}))


if __name__ == "__main__":
    main()
