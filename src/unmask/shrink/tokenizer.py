"""A tokenizer with fewer tokens that reads some texts as it did before.

Why that holds, by the kind of model:

WordPiece takes the longest piece of the vocabulary each time. Among fewer pieces, what was longest
is so still; a word without pieces has none either.
BPE joins the neighbours of lowest rank each time. Kept with a token are all joins that make it, so
of those that are left the lowest was the lowest before.
Unigram takes the pieces whose scores sum to most. The best way is there still, and no way has
become better: what an unknown character costs follows from the lowest score of all, so that piece
stays, and so do the single characters of the texts, as a character is unknown only without one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from tokenizers import Tokenizer

from unmask.errors import UserError

Raw = dict[str, Any]


def trimmed(tokenizer: Tokenizer, used: Iterable[int]) -> tuple[Tokenizer, list[int]]:
    """The tokenizer with the tokens of these ids and what they need; the old id of each new one.

    Special and added tokens stay. So do single characters that the kept tokens are written with,
    so that most new words can be spelt. The order of ids stays.
    """
    raw: Raw = json.loads(tokenizer.to_str())
    model, kind = raw["model"], raw["model"].get("type")
    if kind not in _KEEP:
        raise UserError(
            f"the tokenizer's model is {kind}, and only those of {', '.join(_KEEP)} can be trimmed"
        )
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    names = {i: token for token, i in vocabulary.items()}
    added = {token["id"]: token["content"] for token in raw["added_tokens"]}
    wanted = {names[i] for i in used} | {*added.values()}
    wanted |= {str(token) for token in _named(raw["post_processor"])}
    if isinstance(model.get("unk_token"), str):
        wanted.add(model["unk_token"])
    kept, joins = _KEEP[kind](model, wanted & vocabulary.keys())
    old = sorted({vocabulary[token] for token in kept} | added.keys())
    new = {i: number for number, i in enumerate(old)}
    renumbered = {names[i]: number for i, number in new.items()}
    if kind == "Unigram":
        scores = model["vocab"]
        model["unk_id"] = None if model["unk_id"] is None else new[model["unk_id"]]
        model["vocab"] = [scores[i] for i in old if i < len(scores)]
    else:
        own = model["vocab"]
        model["vocab"] = {token: new[i] for token, i in own.items() if i in new}
    if joins is not None:
        model["merges"] = joins
    raw["added_tokens"] = [{**token, "id": new[token["id"]]} for token in raw["added_tokens"]]
    raw["post_processor"] = _processor(raw["post_processor"], renumbered)
    raw["padding"] = raw["truncation"] = None  # of no use here, and they hold ids
    return Tokenizer.from_str(json.dumps(raw)), old


def _wordpiece(model: Raw, wanted: set[str]) -> tuple[set[str], None]:
    prefix = model["continuing_subword_prefix"]
    letters = {c for token in wanted for c in token.removeprefix(prefix)}
    spelt = letters | {prefix + c for c in letters}
    return wanted | (spelt & model["vocab"].keys()), None


def _word_level(model: Raw, wanted: set[str]) -> tuple[set[str], None]:
    return wanted, None


def _unigram(model: Raw, wanted: set[str]) -> tuple[set[str], None]:
    scores = model["vocab"]
    letters = {c for token in wanted for c in token}
    lowest = min(scores, key=lambda piece: piece[1])[0]
    kept = wanted | {lowest} | {piece for piece, _ in scores if piece in letters}
    if model.get("byte_fallback"):
        kept |= {piece for piece, _ in scores if _is_byte(piece)}
    if model["unk_id"] is not None:
        kept.add(scores[model["unk_id"]][0])
    return kept, None


def _bpe(model: Raw, wanted: set[str]) -> tuple[set[str], list[Any]]:
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(key):
            raise UserError(
                f"the tokenizer's BPE has {key} {model[key]!r}: only one without can be trimmed"
            )
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    kept, used = set(wanted), set()
    for token in wanted:
        parts = list(token)
        kept.update(parts)
        while True:
            pairs = [pair for pair in pairwise(parts) if pair in ranks]
            if not pairs:
                break
            best = min(pairs, key=ranks.__getitem__)
            used.add(best)
            parts = _joined(parts, best)
            kept.update(parts)
    alphabet = {token for token in model["vocab"] if len(token) == 1 or _is_byte(token)}
    kept = (kept | alphabet) & model["vocab"].keys() | (wanted - model["vocab"].keys())
    return kept, [m for m, pair in zip(model["merges"], merges, strict=True) if pair in used]


def _joined(parts: list[str], pair: tuple[str, ...]) -> list[str]:
    """The parts with each such pair, from the left, as one."""
    found: list[str] = []
    i = 0
    while i < len(parts):
        both = tuple(parts[i : i + 2]) == pair
        found.append("".join(pair) if both else parts[i])
        i += 2 if both else 1
    return found


_KEEP = {"WordPiece": _wordpiece, "BPE": _bpe, "Unigram": _unigram, "WordLevel": _word_level}


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _named(processor: Raw | None) -> list[str]:
    """The tokens that a post-processor adds."""
    if processor is None:
        return []
    kind = processor["type"]
    if kind == "Sequence":
        return [token for one in processor["processors"] for token in _named(one)]
    if kind == "TemplateProcessing":
        return [t for own in processor["special_tokens"].values() for t in own["tokens"]]
    return [processor[key][0] for key in ("sep", "cls") if key in processor]


def _processor(processor: Raw | None, ids: Mapping[str, int]) -> Raw | None:
    """A post-processor with the new ids of the tokens that it adds."""
    if processor is None:
        return None
    kind = processor["type"]
    if kind == "Sequence":
        return {**processor, "processors": [_processor(p, ids) for p in processor["processors"]]}
    if kind == "TemplateProcessing":
        own = processor["special_tokens"]
        numbered = {k: {**v, "ids": [ids[t] for t in v["tokens"]]} for k, v in own.items()}
        return {**processor, "special_tokens": numbered}
    if kind in ("BertProcessing", "RobertaProcessing"):
        return processor | {
            key: [processor[key][0], ids[processor[key][0]]] for key in ("sep", "cls")
        }
    if kind != "ByteLevel":
        raise UserError(f"the tokenizer's post-processor is {kind}, which cannot be trimmed")
    return processor
