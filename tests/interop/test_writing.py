"""Writing by an imported checkpoint is what transformers' causal BERT writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import unmask
from unmask.batch import collate
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.tasks import Draw, Generate, row_rng
from unmask.tasks.generation.options import GenerateOptions

transformers = pytest.importorskip("transformers")


def test_a_causal_bert_writes_the_same(text: TextInput, tmp_path: Path) -> None:
    """Without a source the prefix mask is the causal one of `is_decoder`; greedy and beams too."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=text.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=32, is_decoder=True, initializer_range=0.4,
        pad_token_id=0, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    theirs = transformers.BertLMHeadModel(config).eval()
    theirs.save_pretrained(tmp_path)
    plain = {"is_decoder": False, "architectures": ["BertForMaskedLM"]}
    shown = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**shown, **plain}))
    text.save(tmp_path / "tokenizer.json")
    start = unmask.load(tmp_path)
    task = Generate("it", GenerateOptions(target_length=12), start.text)
    task.pieces.__dict__["kind"] = 0  # there all positions have the first token type
    head = task.build(start.encoder)
    assert task.take_over(head, [start.head("mlm")])
    model = Model(start.encoder, start.text, {"it": task}, {"it": head})
    row = {"text": "the cat was good and the dog runs"}
    (example,) = task.examples(row, Draw(row_rng(0, "it", 0, 0)))
    ids = torch.from_numpy(start.text.encode(row["text"]).ids[None])
    with torch.no_grad():
        ours = model(task, collate([example]))[0]["logits"]
        logits = theirs(input_ids=ids).logits[0, :-1]
    torch.testing.assert_close(ours, logits, atol=1e-4, rtol=1e-4)
    banned = [[i] for i in task.pieces.special] + [[task.pieces.unknown]]
    begun = torch.from_numpy(start.text.encode("the cat").ids[None, :-1])
    for beams in (1, 3):
        found = theirs.generate(
            begun, attention_mask=torch.ones_like(begun), num_beams=beams, do_sample=False,
            max_new_tokens=10, bad_words_ids=banned, length_penalty=1.0, early_stopping=True,
        )[0].numpy()  # fmt: skip
        (answer,) = model.predict("it", "the cat", beams=beams, longest=10)
        expected = [start.text.tokenizer.id_to_token(int(i)) for i in found[1:] if i > 4]
        assert list(answer.texts[0].pieces) == expected
        assert np.isfinite(answer.texts[0].log_probability)
