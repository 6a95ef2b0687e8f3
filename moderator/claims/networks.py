"""How the classifier's network is run: in eight bits on the CPU, or for many rooms on a GPU.

The shipped graph multiplies in eight bits, which CUDA has no kernels for: on a GPU nearly every
layer would go back to the CPU. There the same weights are multiplied as floats, and the sentences
that different rooms ask about meanwhile go through together. In eight bits sentences are read one
by one, since the inputs of a whole batch would share one scale and change each other's answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from moderator import devices

if TYPE_CHECKING:
    import onnx

MOST = 64
"""Sentences that go through at once."""

Pieces = tuple[Sequence[int], Sequence[int]]
"""A sentence's tokens and its syllables, as numbers."""


class Network(Protocol):
    """Safe to share between threads."""

    def logits(self, sentence: Pieces) -> NDArray[np.float32]:
        """[1 + labels]: "unlawful" first."""
        ...


class InEightBits:
    """`model.onnx` as it is, on one thread a call."""

    def __init__(self, model: Path) -> None:
        self._session = _session(str(model), "cpu")

    def logits(self, sentence: Pieces) -> NDArray[np.float32]:
        found: NDArray[np.float32] = _run(self._session, [sentence])[0]
        return found


class InFloats:
    """The weights of `model.onnx` as floats on `device` (`cpu` or `cuda:N`); up to MOST
    sentences that wait at the same time are read in one batch. Nothing waits for a batch to fill.

    Raises ImportError without the package `onnx`, which rewrites the graph.
    """

    def __init__(self, model: Path, device: str) -> None:
        import onnx

        graph = in_floats(onnx.load(model))
        self._session = _session(graph.SerializeToString(), device)
        self._asked = Together(self.batch, MOST)

    def batch(self, sentences: Sequence[Pieces]) -> NDArray[np.float32]:
        """[sentences, 1 + labels], all in one."""
        return _run(self._session, sentences)

    def logits(self, sentence: Pieces) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._asked(sentence)
        return found


class Together:
    """Asks `answer` for what several threads want at the same time in one call: whatever has come
    in while the last call ran, up to `most`."""

    def __init__(self, answer: Callable[[Sequence[Any]], Iterable[Any]], most: int) -> None:
        self._answer = answer
        self._most = most
        self._waiting: SimpleQueue[tuple[Any, Future[Any]]] = SimpleQueue()
        Thread(target=self._work, name="classifier", daemon=True).start()

    def __call__(self, question: Any) -> Any:
        """What `answer` gives for this question. Raises what it raised."""
        future: Future[Any] = Future()
        self._waiting.put((question, future))
        return future.result()

    def _work(self) -> None:
        while True:
            taken = [self._waiting.get()]
            try:
                while len(taken) < self._most:
                    taken.append(self._waiting.get_nowait())
            except Empty:
                pass
            try:
                answers = self._answer([question for question, _ in taken])
            except Exception as error:
                for _, future in taken:
                    future.set_exception(error)
            else:
                for (_, future), answer in zip(taken, answers, strict=True):
                    future.set_result(answer)


def in_floats(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph that `onnxruntime.quantization.quantize_dynamic` wrote, changed in place: each
    product in eight bits becomes one in floats with the same weights.

        DynamicQuantizeLinear → MatMulInteger → Cast → Mul (by both scales)    becomes    MatMul
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    kept = {one.name: one for one in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    nodes: list[onnx.NodeProto] = []
    gone: set[str] = set()
    for node in graph.node:
        if node.op_type != "MatMulInteger":
            nodes.append(node)
            continue
        (cast,) = users[node.output[0]]
        (scaled,) = users[cast.output[0]]
        scales = made_by[next(name for name in scaled.input if name != cast.output[0])]
        quantised = made_by[node.input[0]]
        scale = next(name for name in scales.input if name in kept)
        steps, zero, factor = (
            numpy_helper.to_array(kept[name]).astype(np.float32)
            for name in (node.input[1], node.input[3], scale)
        )
        weights = f"{node.input[1]}_as_floats"
        graph.initializer.append(
            numpy_helper.from_array(((steps - zero) * factor).astype(np.float32), weights)
        )
        inputs = [quantised.input[0], weights]
        nodes.append(helper.make_node("MatMul", inputs, list(scaled.output), name=node.name))
        gone |= {quantised.name, cast.name, scales.name, scaled.name}
    del graph.node[:]
    graph.node.extend(node for node in nodes if node.name not in gone)
    used = {name for node in graph.node for name in node.input}
    for name in kept.keys() - used:
        graph.initializer.remove(kept[name])
    return model


def _session(model: str | bytes, device: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = devices.onnx_providers(device)
    return onnxruntime.InferenceSession(model, options, providers=providers)


def _run(session: Any, sentences: Sequence[Pieces]) -> NDArray[np.float32]:
    """Shorter sentences are filled up with nought, which the mask hides from the network."""
    longest = max(len(tokens) for tokens, _ in sentences)
    most_sounds = max(len(sounds) for _, sounds in sentences)
    ids = np.zeros((len(sentences), longest), np.int64)
    mask = np.zeros((len(sentences), longest), np.float32)
    heard = np.zeros((len(sentences), most_sounds), np.int64)
    for row, (tokens, sounds) in enumerate(sentences):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1.0
        heard[row, : len(sounds)] = sounds
    (logits,) = session.run(None, {"ids": ids, "mask": mask, "sounds": heard})
    found: NDArray[np.float32] = logits
    return found
