"""Other libraries' formats: the folders of Hugging Face, sentence-transformers and Google."""

from unmask.interop.checkpoint import Checkpoint
from unmask.interop.families import usual_head
from unmask.interop.read import read_checkpoint
from unmask.interop.source import resolve, tokenizer_file
from unmask.interop.write import (
    write_checkpoint,
    write_sentence_transformers,
    write_tensorflow,
)

__all__ = [
    "Checkpoint",
    "read_checkpoint",
    "resolve",
    "tokenizer_file",
    "usual_head",
    "write_checkpoint",
    "write_sentence_transformers",
    "write_tensorflow",
]
