"""The hub's data sets, with the network left out."""

from __future__ import annotations

from typing import Any

import datasets
import pytest

from unmask.data.sources import Source, read
from unmask.errors import UserError


def test_a_data_set_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"])
    )
    asked: list[Any] = []

    def load(*args: Any, **options: Any) -> datasets.Dataset:
        asked.append((args, options))
        return datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load)
    rows = read(Source(path="hub://me/films", name="small", limit=1))
    assert asked == [(("hf://datasets/me/films", "small"), {"split": "train"})]
    assert list(rows) == [{"text": "a", "label": "pos"}]
    assert rows.origin == "hub://me/films"


def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **options: Any) -> datasets.Dataset:
        raise ConnectionError("Couldn't reach 'me/films' on the Hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(UserError) as caught:
        read(Source(path="hub://me/films", split="test"))
    said = str(caught.value)
    assert said.startswith("hub://me/films (split test) could not be loaded: Couldn't reach")
    assert "and more" not in said
