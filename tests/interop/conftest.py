"""Tiny random models of every family, made and saved by transformers, and how to compare."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor

from unmask.batch import Example, collate
from unmask.interop import Checkpoint

TEXTS = [
    ("hello world", None),
    ("a rather longer text, in which hello stands far from its world", None),
    ("one of two", "and the second one, which is longer"),
    ("x", None),
]
LETTERS = string.ascii_lowercase + ",."
SIZE = {"num_hidden_layers": 4, "hidden_size": 32, "num_attention_heads": 4}
SIZE |= {"intermediate_size": 48, "max_position_embeddings": 80}
ROBERTA = SIZE | {"max_position_embeddings": 82, "type_vocab_size": 1, "pad_token_id": 1}
CONFIGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bert": (transformers.BertConfig, SIZE),
    "roberta": (transformers.RobertaConfig, ROBERTA),
    "xlm-roberta": (transformers.XLMRobertaConfig, ROBERTA),
    "distilbert": (
        transformers.DistilBertConfig,
        {"n_layers": 4, "dim": 32, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 80},
    ),
    "electra": (transformers.ElectraConfig, SIZE | {"embedding_size": 16}),
    "modernbert": (
        transformers.ModernBertConfig,
        SIZE | {"local_attention": 8, "pad_token_id": 0, "global_rope_theta": 5000.0},
    ),
}
CLASSES = {
    None: transformers.AutoModel,
    "mlm": transformers.AutoModelForMaskedLM,
    "classify": transformers.AutoModelForSequenceClassification,
    "tag": transformers.AutoModelForTokenClassification,
    "span": transformers.AutoModelForQuestionAnswering,
}


def _tokenizer(family: str) -> Any:
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    if family == "roberta":
        vocab = [*names, *sorted(ByteLevel.alphabet()), "he", "<mask>"]
        ids = {token: number for number, token in enumerate(vocab)}
        return transformers.RobertaTokenizer(vocab=ids, merges=[("h", "e")])
    if family == "xlm-roberta":
        pieces = [*names, "▁", *LETTERS, "▁hello", "<mask>"]
        return transformers.XLMRobertaTokenizer(
            vocab=[(p, -float(i)) for i, p in enumerate(pieces)]
        )
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", *LETTERS]
    words += [f"##{letter}" for letter in LETTERS]
    tokenizer = transformers.BertTokenizer(vocab={w: n for n, w in enumerate(words)})
    if family in ("distilbert", "modernbert"):
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


@dataclass
class Made:
    """A folder that transformers wrote, with the model and the tokenizer in it."""

    path: Path
    model: Any
    tokenizer: Any


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    """Make a folder of a family with a head, all its weights random."""

    def build(family: str, kind: str | None = None, **changes: Any) -> Made:
        config_class, size = CONFIGS[family]
        tokenizer = _tokenizer(family)
        config = config_class(**({"vocab_size": len(tokenizer)} | size | changes))
        torch.manual_seed(0)
        model = CLASSES[kind].from_config(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
        path = tmp_path / f"{family}-{kind}"
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
        return Made(path, model, transformers.AutoTokenizer.from_pretrained(path))

    return build


@dataclass
class Outputs:
    """Hidden states (n, D) of all tokens, and logits of a head."""

    hidden: Tensor
    logits: Tensor | None

    def distance(self, other: Outputs) -> float:
        """The largest absolute difference."""
        found = (self.hidden - other.hidden).abs().max().item()
        if self.logits is not None and other.logits is not None:
            assert self.logits.shape == other.logits.shape
            found = max(found, (self.logits - other.logits).abs().max().item())
        return found


@pytest.fixture
def theirs() -> Callable[[Any, Any], Outputs]:
    """What a transformers model says of the texts, as one padded batch."""

    def run(model: Any, tokenizer: Any) -> Outputs:
        batch = tokenizer([(a, b) if b else a for a, b in TEXTS], padding=True, return_tensors="pt")
        real = batch["attention_mask"].bool()
        with torch.no_grad():
            out = model(**batch, output_hidden_states=True)
        # ModernBERT's last layer output is not yet normalised, so its trunk is asked itself.
        with torch.no_grad():
            hidden = getattr(model, model.base_model_prefix, model)(**batch).last_hidden_state
        logits = getattr(out, "logits", None)
        if hasattr(out, "start_logits"):
            logits = torch.stack((out.start_logits, out.end_logits), dim=-1)
        if logits is not None and logits.dim() == 3:
            logits = logits[real]
        return Outputs(hidden[real], logits)

    return run


@pytest.fixture
def ours() -> Callable[[Checkpoint, int], Outputs]:
    """What a checkpoint of ours says of the texts, in a grid of some width."""

    def run(checkpoint: Checkpoint, width: int) -> Outputs:
        encoded = [checkpoint.text.encode(a, b) for a, b in TEXTS]
        pooling = [c.pooling for c in checkpoint.head_configs.values()]
        everything = [np.arange(len(e.ids)) for e in encoded]
        firsts = [np.zeros(1, dtype=np.int64)] * len(encoded)

        def gathered(wanted: list[Any]) -> tuple[Any, Tensor]:
            examples = [
                Example((e.sequence(),), (w,)) for e, w in zip(encoded, wanted, strict=True)
            ]
            batch = collate(examples, width)
            with torch.no_grad():
                return batch, batch.gather(checkpoint.encoder(batch).last)

        hidden = gathered(everything)[1]
        logits = None
        for kind, head in checkpoint.heads.items():
            batch, wanted = gathered(firsts if pooling == ["cls"] else everything)
            with torch.no_grad():
                args = () if kind == "mlm" else (batch.wanted_owner, batch.sequences)
                logits = head(wanted, *args)
        return Outputs(hidden, logits)

    return run
