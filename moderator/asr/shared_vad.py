"""Voice activity of many rooms in one call of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderator import models
from moderator.asr.engine import Samples
from moderator.asr.vad import CONTEXT_SAMPLES, WINDOW_SAMPLES, onnxruntime_session

STEPS_A_CALL = 16
"""Half a second of every room: a room that has more waiting does not pad out the others."""


@dataclass(slots=True, eq=False)
class RoomVoice:
    """What the network remembers of one room; a VoiceActivity by itself."""

    vad: SharedSileroVad
    h: NDArray[np.float32] = field(init=False)
    c: NDArray[np.float32] = field(init=False)
    context: Samples = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.h = np.zeros(_HIDDEN, np.float32)
        self.c = np.zeros(_HIDDEN, np.float32)
        self.context = np.zeros(CONTEXT_SAMPLES, np.float32)

    def probabilities(self, windows: Samples) -> NDArray[np.float32]:
        return self.vad.probabilities([(self, windows)])[0]


class SharedSileroVad:
    """Silero VAD v6 over the windows of many rooms at once, each with a state of its own.

    The answers are those of a SileroVad for each room. Not thread-safe: one worker owns it.
    Raises LM-402 without onnxruntime, LM-403 or LM-404 without the weights.
    """

    def __init__(self) -> None:
        weights = models.locate("silero-vad-v6").read_bytes()
        self._session: Any = onnxruntime_session(weights + _many_rooms())

    def room(self) -> RoomVoice:
        """A room that has heard nothing yet."""
        return RoomVoice(self)

    def probabilities(
        self, rooms: Sequence[tuple[RoomVoice, Samples]]
    ) -> list[NDArray[np.float32]]:
        """Speech probability (0–1) of each window, shapes (n, 512) → (n,), room by room."""
        done: list[list[NDArray[np.float32]]] = [[] for _ in rooms]
        longest = max((len(windows) for _, windows in rooms), default=0)
        for begin in range(0, longest, STEPS_A_CALL):
            waiting = [
                (index, voice, windows[begin : begin + STEPS_A_CALL])
                for index, (voice, windows) in enumerate(rooms)
                if len(windows) > begin
            ]
            answers = self._call([(voice, windows) for _, voice, windows in waiting])
            for (index, _, _), answer in zip(waiting, answers, strict=True):
                done[index].append(answer)
        return [np.concatenate(parts) if parts else np.zeros(0, np.float32) for parts in done]

    def _call(self, rooms: Sequence[tuple[RoomVoice, Samples]]) -> list[NDArray[np.float32]]:
        count, steps = len(rooms), max(len(windows) for _, windows in rooms)
        rows = np.zeros((steps, count, CONTEXT_SAMPLES + WINDOW_SAMPLES), np.float32)
        for index, (voice, windows) in enumerate(rooms):
            tails = windows[:, -CONTEXT_SAMPLES:]
            rows[: len(windows), index, CONTEXT_SAMPLES:] = windows
            rows[: len(windows), index, :CONTEXT_SAMPLES] = [voice.context, *tails[:-1]]
            voice.context = tails[-1].copy()
        one = np.zeros((1, 1, _HIDDEN), np.float32)
        probabilities, hs, cs = self._session.run(
            ["room_probs", "room_hn", "room_cn"],
            {
                "input": rows.reshape(steps * count, -1),
                "h": one,
                "c": one,
                "room_grid": np.array([steps, count, _HIDDEN], np.int64),
                "room_lengths": np.array([len(windows) for _, windows in rooms], np.int32),
                "room_h": np.stack([voice.h for voice, _ in rooms])[None],
                "room_c": np.stack([voice.c for voice, _ in rooms])[None],
            },
        )
        for index, (voice, _) in enumerate(rooms):
            voice.h, voice.c = hs[0, index].copy(), cs[0, index].copy()
        return [probabilities[index, 0, : len(windows)] for index, (_, windows) in enumerate(rooms)]


_HIDDEN = 128


def _many_rooms() -> bytes:
    """What makes the network's LSTM take a batch, to be put after its file.

    The network runs one stream: its windows are the steps of an LSTM whose batch is 1. A second
    LSTM with the same weights, over the same features arranged as (steps, rooms), and the layers
    behind it are added to the graph. Protocol buffers read the parts of a message that comes
    twice as one message, so the addition is a second `graph` after the first, and the file of
    weights stays as it was published.
    """
    weights = ("onnx::LSTM_209", "onnx::LSTM_210", "onnx::LSTM_211")
    nodes = (
        _node("Reshape", ("/Transpose_output_0", "room_grid"), ("room_steps",)),
        _node(
            "LSTM",
            ("room_steps", *weights, "room_lengths", "room_h", "room_c"),
            ("room_heard", "room_hn", "room_cn"),
            _attribute("hidden_size", _int(_ATTRIBUTE_INT, _HIDDEN), _INT),
        ),
        _node(
            "Squeeze",
            ("room_heard", "/encoder/feature_extractor/Constant_output_0"),
            ("room_squeezed",),
        ),
        _node("Relu", ("room_squeezed",), ("room_positive",)),
        _node(
            "Transpose",
            ("room_positive",),
            ("room_turned",),
            _attribute("perm", b"".join(_int(_ATTRIBUTE_INTS, n) for n in (1, 2, 0)), _INTS),
        ),
        _node(
            "Conv",
            ("room_turned", "decoder.conv1d.weight", "decoder.conv1d.bias"),
            ("room_scored",),
            _attribute("kernel_shape", _int(_ATTRIBUTE_INTS, 1), _INTS),
        ),
        _node("Sigmoid", ("room_scored",), ("room_probs",)),
    )
    state = (1, "rooms", _HIDDEN)
    values = (
        _value(_GRAPH_INPUT, "room_grid", _INT64, (3,)),
        _value(_GRAPH_INPUT, "room_lengths", _INT32, ("rooms",)),
        _value(_GRAPH_INPUT, "room_h", _FLOAT, state),
        _value(_GRAPH_INPUT, "room_c", _FLOAT, state),
        _value(_GRAPH_OUTPUT, "room_probs", _FLOAT, ("rooms", 1, "steps")),
        _value(_GRAPH_OUTPUT, "room_hn", _FLOAT, state),
        _value(_GRAPH_OUTPUT, "room_cn", _FLOAT, state),
    )
    return _message(_MODEL_GRAPH, b"".join((*nodes, *values)))


# Field numbers and enumerations of onnx.proto (ONNX 1.x).
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INPUT, _GRAPH_OUTPUT = 7, 1, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_INTS, _ATTRIBUTE_TYPE = 1, 3, 8, 20
_INT, _INTS = 2, 7
_FLOAT, _INT32, _INT64 = 1, 6, 7


def _node(op: str, inputs: Sequence[str], outputs: Sequence[str], *attributes: bytes) -> bytes:
    names = [_message(_NODE_INPUT, name.encode()) for name in inputs]
    names += [_message(_NODE_OUTPUT, name.encode()) for name in outputs]
    body = b"".join((*names, _message(_NODE_OP, op.encode()), *attributes))
    return _message(_GRAPH_NODE, body)


def _attribute(name: str, value: bytes, kind: int) -> bytes:
    body = _message(_ATTRIBUTE_NAME, name.encode()) + value + _int(_ATTRIBUTE_TYPE, kind)
    return _message(_NODE_ATTRIBUTE, body)


def _value(field: int, name: str, element: int, shape: Sequence[int | str]) -> bytes:
    dimensions = b"".join(
        _message(1, _int(1, size) if isinstance(size, int) else _message(2, size.encode()))
        for size in shape
    )
    tensor = _int(1, element) + _message(2, dimensions)
    return _message(field, _message(1, name.encode()) + _message(2, _message(1, tensor)))


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
