"""The peer of bench/serve.py: sentence-transformers behind FastAPI, as many write it; fp32.

Batches within a request, a thread for each request, the library's defaults. With `--processes N`
as one tunes it: so many processes of one torch thread, each of which takes one request at a time.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import socket
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

_model: SentenceTransformer


class Body(BaseModel):
    """As text-embeddings-inference has it."""

    inputs: str | list[str]


def load(folder: str, threads: int = 0) -> None:
    """The model of this process; so many torch threads, or as many as torch likes."""
    global _model
    if threads:
        torch.set_num_threads(threads)
    _model = SentenceTransformer(folder, device="cpu")
    _model.encode("what is slow only once")


def encode(texts: list[str]) -> Any:
    """Vectors of this process's model."""
    return _model.encode(texts, normalize_embeddings=True).tolist()


def main() -> None:
    """Load the folder, and serve it on a free port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--processes", type=int, default=0)
    options = parser.parse_args()
    app = FastAPI()
    if options.processes:
        pool = ProcessPoolExecutor(
            options.processes, multiprocessing.get_context("spawn"), load, (options.folder, 1)
        )
        list(pool.map(encode, [["all of them start"]] * 4 * options.processes))
    else:
        load(options.folder)

    @app.post("/embed")
    def embed(body: Body) -> Any:
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        return pool.submit(encode, texts).result() if options.processes else encode(texts)

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    logging.basicConfig(level=logging.ERROR)
    print(f"on http://127.0.0.1:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
    config = uvicorn.Config(app, log_config=None, access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
