"""Voice activity: how likely each 32 ms of sound is speech."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from moderator import models
from moderator.asr.engine import Samples
from moderator.errors import ENGINE_MISSING, ModeratorError

WINDOW_SAMPLES = 512
"""The step that Silero VAD was trained on at 16 kHz: 32 ms."""

CONTEXT_SAMPLES = 64
"""The end of the window before, which the network hears again."""
_STATE_SHAPE = (1, 1, 128)


class VoiceActivity(Protocol):
    """A detector for one stream; it remembers what it heard before."""

    def probabilities(self, windows: Samples) -> NDArray[np.float32]:
        """Speech probability (0–1) of each row of `windows`, shape (n, 512) → (n,)."""
        ...

    def reset(self) -> None:
        """Forget the past, as after a gap in the stream."""
        ...


class SileroVad:
    """Silero VAD v6 through onnxruntime, on one thread.

    All windows of a call go through the network at once; the state of its LSTM and the last
    64 samples are carried to the next call, so the cut into calls changes nothing.

    Raises LM-402 without onnxruntime, LM-403 or LM-404 without the weights.
    """

    def __init__(self) -> None:
        self._session = onnxruntime_session(str(models.locate("silero-vad-v6")))
        self.reset()

    def reset(self) -> None:
        self._h = np.zeros(_STATE_SHAPE, np.float32)
        self._c = np.zeros(_STATE_SHAPE, np.float32)
        self._context = np.zeros(CONTEXT_SAMPLES, np.float32)

    def probabilities(self, windows: Samples) -> NDArray[np.float32]:
        if not len(windows):
            return np.zeros(0, np.float32)
        tails = windows[:, -CONTEXT_SAMPLES:]
        contexts = np.concatenate([self._context[None], tails[:-1]])
        self._context = tails[-1].copy()
        out, self._h, self._c = self._session.run(
            None,
            {"input": np.hstack([contexts, windows]), "h": self._h, "c": self._c},
        )
        return np.asarray(out, np.float32).reshape(-1)


def onnxruntime_session(model: str | bytes) -> Any:
    """An inference session of `model`, a path or the file's bytes, on one thread of the CPU.

    Raises LM-402 without onnxruntime.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModeratorError(
            ENGINE_MISSING,
            name="silero-vad",
            package="onnxruntime",
            install="live-stream-moderator[embedded]",
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model, sess_options=options, providers=["CPUExecutionProvider"]
    )
