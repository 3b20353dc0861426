"""What a checkpoint holds, whichever library wrote it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from unmask.encoder import Encoder, EncoderConfig, HeadConfig, Pooling
from unmask.inputs.text import TextInput


@dataclass
class Checkpoint:
    """An encoder with its tokenizer, and the heads that came with it.

    `heads` and `head_configs` are keyed by the kind of task: `mlm`, `classify`, `tag`, `span`.
    `extra` holds weights of parts that we do not run (BERT's pooler where no classifier uses it,
    its next-sentence head, ELECTRA's detector), under their own names: writing the checkpoint
    back to the same `family` gives them back, weight for weight. Leave it empty for an encoder
    that was trained further, since those parts have not followed.
    """

    config: EncoderConfig
    encoder: Encoder
    text: TextInput
    heads: dict[str, nn.Module] = field(default_factory=dict)
    head_configs: dict[str, HeadConfig] = field(default_factory=dict)
    labels: tuple[str, ...] = ()  # of the head `classify` or `tag`
    multi_label: bool = False  # several labels may be true at once
    pooling: Pooling | None = None  # of a sentence encoder
    family: str | None = None  # `model_type` of the folder it came from
    extra: dict[str, Tensor] = field(default_factory=dict)

    @property
    def max_length(self) -> int:
        """The longest sequence, in tokens, special ones included."""
        return self.text.max_length
