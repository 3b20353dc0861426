"""What a peer may use of this machine; it knows nothing of unmask."""

from __future__ import annotations

import torch


def has_bf16() -> bool:
    """Whether there is a GPU, or a processor with bf16 arithmetic."""
    return torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported()
