"""Engines that compile a graph for the processor: OpenVINO and ONNX Runtime.

Each is imported only where it is used. All give one thing, a `Compiled`: numpy arrays in, numpy
arrays out, from as many threads at once as there are streams.
"""

from __future__ import annotations

import logging
import os
import queue
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from unmask.errors import UserError
from unmask.machine.threads import threads_each
from unmask.runtime.graph import INPUTS, Trunk, example

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]  # ids, mask, kinds: (B, T) each


class Compiled(Protocol):
    """A graph that is ready to run."""

    def __call__(
        self, arrays: Arrays, output: str, use: Callable[[np.ndarray], torch.Tensor]
    ) -> torch.Tensor:
        """What `use` makes of one output; the array is only lent, so `use` must copy of it."""


@dataclass(frozen=True)
class Streams:
    """How many grids are computed at a time, and by how many threads each."""

    count: int
    threads: int = 1

    @classmethod
    def fitted(cls, threads: int = 1) -> Streams:
        """As many as this process may have threads at once, with so many threads each.

        On short texts streams of one thread beat one stream of many: nothing waits for another.
        """
        most = threads_each()
        threads = min(threads, most)
        return cls(most // threads, threads)


class Engine(Protocol):
    """A library that compiles graphs."""

    name: str
    extra: str  # of `pip install 'unmask[…]'`
    file: str  # what a graph is kept in, beside what it brings along

    def write(self, trunk: Trunk, folder: Path) -> None:
        """Write a graph into a folder; inputs and outputs have their names."""

    def lacks(self, precision: str) -> str | None:
        """Why this machine cannot compute in a precision; None where it can."""

    def compile(self, folder: Path, precision: str, streams: Streams) -> Compiled:
        """A graph of a folder, ready to run."""


def engine(name: str) -> Engine:
    """The engine of that name; a UserError says which extra brings it."""
    found = ENGINES[name]
    if not installed(found):
        raise UserError(
            f"the forms of {name} need a library that is not installed: "
            f"pip install 'unmask[{found.extra}]'"
        )
    return found


def installed(one: Engine) -> bool:
    """Whether the engine's library is there."""
    return find_spec(one.name) is not None


@contextmanager
def quiet() -> Iterator[None]:
    """While a graph is made: no warnings of every Python number in it, and no reports of use.

    OpenVINO's and NNCF's converters tell their makers that they ran, unless they run in tests.
    """
    before = {name: os.environ.get(name) for name in ("CI", "NNCF_CI")}
    os.environ.update(CI="true", NNCF_CI="true")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


class OpenVino:
    """Intel's engine: the fastest on x86 processors, from AVX2 up to AMX."""

    name = "openvino"
    extra = "openvino"
    file = "model.xml"

    def write(self, trunk: Trunk, folder: Path) -> None:
        self.save(self.convert(trunk), folder)

    def convert(self, trunk: Trunk) -> Any:
        """OpenVINO's own model of a graph."""
        import openvino

        with quiet(), torch.inference_mode(mode=False), torch.no_grad():
            found = openvino.convert_model(trunk.eval(), example_input=example())
        for port, name in zip(found.inputs, INPUTS, strict=False):
            port.get_tensor().set_names({name})
        for port, name in zip(found.outputs, trunk.outputs, strict=True):
            port.get_tensor().set_names({name})
        return found

    def save(self, model: Any, folder: Path) -> None:
        """Write OpenVINO's model as it is: by default it would round weights to fp16."""
        import openvino

        openvino.save_model(model, folder / self.file, compress_to_fp16=False)

    def lacks(self, precision: str) -> str | None:
        import openvino

        able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and "BF16" not in able:
            return "this processor does not compute in bf16 (it has neither AVX512-BF16 nor AMX)"
        return None

    def compile(self, folder: Path, precision: str, streams: Streams) -> Compiled:
        import openvino

        core = openvino.Core()
        model = core.compile_model(
            core.read_model(folder / self.file),
            "CPU",
            {
                "NUM_STREAMS": streams.count,
                "INFERENCE_NUM_THREADS": streams.count * streams.threads,
                # What stays in floats beside int8 is fp32: bf16 has to be asked for.
                "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
                "ENABLE_CPU_PINNING": False,  # other work shares these cores
                "CPU_RUNTIME_CACHE_CAPACITY": 512,  # kernels by shape; 5,000 by default
            },
        )
        return _OpenVinoModel(model, streams.count)


class _OpenVinoModel:
    """Requests are handed from thread to thread: each keeps memory for the largest grid it saw."""

    def __init__(self, model: Any, streams: int) -> None:
        self.inputs = [port.get_any_name() for port in model.inputs]
        self.outputs = {name: port for port in model.outputs for name in port.get_names()}
        self.requests: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(streams):
            self.requests.put(model.create_infer_request())

    def __call__(
        self, arrays: Arrays, output: str, use: Callable[[np.ndarray], torch.Tensor]
    ) -> torch.Tensor:
        given = dict(zip(INPUTS, arrays, strict=True))
        request = self.requests.get()
        try:
            request.infer({name: given[name] for name in self.inputs}, share_inputs=True)
            return use(request.get_tensor(self.outputs[output]).data)
        finally:
            self.requests.put(request)


class OnnxRuntime:
    """ONNX Runtime: on nearly every processor there is."""

    name = "onnxruntime"
    extra = "onnx"
    file = "model.onnx"

    def write(self, trunk: Trunk, folder: Path) -> None:
        if find_spec("onnxscript") is None:
            raise UserError("writing ONNX needs onnxscript: pip install 'unmask[onnx]'")
        any_size = torch.export.Dim.DYNAMIC
        with quiet(), torch.inference_mode(mode=False), torch.no_grad():
            program = torch.onnx.export(
                trunk.eval(),
                example(),
                dynamo=True,
                opset_version=20,  # has GELU; what 23 adds, engines do not all have yet
                verbose=False,
                input_names=list(INPUTS),
                output_names=list(trunk.outputs),
                dynamic_shapes=({0: any_size, 1: any_size},) * 3,
            )
        assert program is not None
        program.save(folder / self.file, external_data=False)

    def lacks(self, precision: str) -> str | None:
        if precision == "bf16":
            return "ONNX Runtime computes in fp32 on this processor: bf16 is for openvino or torch"
        return None

    def compile(self, folder: Path, precision: str, streams: Streams) -> Compiled:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = streams.threads
        options.inter_op_num_threads = 1
        # An arena keeps the most that any grid ever needed, for each size anew.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        path = str(folder / self.file)
        return _OnnxModel(
            onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        )


class _OnnxModel:
    def __init__(self, session: Any) -> None:
        self.session = session
        self.inputs = [port.name for port in session.get_inputs()]

    def __call__(
        self, arrays: Arrays, output: str, use: Callable[[np.ndarray], torch.Tensor]
    ) -> torch.Tensor:
        given = dict(zip(INPUTS, arrays, strict=True))
        return use(self.session.run([output], {name: given[name] for name in self.inputs})[0])


ENGINES: Mapping[str, Engine] = {one.name: one for one in (OpenVino(), OnnxRuntime())}
