"""The peer of bench/serve.py: sentence-transformers behind FastAPI, as many write it.

Batches within a request, a thread for each request, the library's defaults; fp32.
"""

from __future__ import annotations

import logging
import socket
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Body(BaseModel):
    """As text-embeddings-inference has it."""

    inputs: str | list[str]


def main() -> None:
    """Load the folder, and serve it on a free port."""
    model = SentenceTransformer(sys.argv[1], device="cpu")
    app = FastAPI()

    @app.post("/embed")
    def embed(body: Body) -> Any:
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        return model.encode(texts, normalize_embeddings=True).tolist()

    model.encode("what is slow only once")
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    logging.basicConfig(level=logging.ERROR)
    print(f"on http://127.0.0.1:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
    config = uvicorn.Config(app, log_config=None, access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
