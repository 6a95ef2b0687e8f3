"""A speech engine in a process of its own, behind the same protocol.

Whoever decodes on a GPU is busy in Python between kernels, and rooms are busy in Python with
sockets and queues; in one process they would wait for each other. So each GPU gets a process that
owns it: a fault of the driver ends that process and not the rooms, and the next batch finds a fresh
one.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import ceil
from multiprocessing.connection import Connection
from typing import Any

import structlog

from moderator.asr.engine import AsrEngine, SpeechSegment, Transcript, context_of
from moderator.asr.second_listen import Encoded, Scores
from moderator.errors import ENGINE_DIED, ErrorSpec, ModeratorError

log = structlog.get_logger()

START_WITHIN_S = 600.0
"""Large weights from a slow disk, or from the hub."""
ANSWER_WITHIN_S = 120.0
_KEPT = 4
"""Encoder outputs that the process holds for a second listen."""
_LENGTHS_S = [tenth / 10 for tenth in range(301)]

Factory = Callable[..., AsrEngine]


class EngineProcess:
    """Engine `name` with `options` in a child; a dead one is started again for the next call.

    `device` is for messages. `answer_within_s` bounds a call: a child that hangs is killed. Raises
    on construction what the engine raises, and on every call LM-409 when the child died; what an
    engine raises on a batch comes back as RuntimeError. Not thread-safe, as engines are not.
    """

    def __init__(
        self,
        name: str,
        options: dict[str, Any],
        *,
        device: str = "",
        answer_within_s: float = ANSWER_WITHIN_S,
        factory: Factory | None = None,
    ) -> None:
        self.device = device or str(options.get("device", "auto"))
        self.scores = False
        self._registered, self._options, self._factory = name, options, factory
        self._answer_within_s = answer_within_s
        self._beam_size: int | None = None
        self._contexts_s: list[float] | None = None
        self._process: Any = None
        self._pipe: Connection | None = None
        self._generation = 0
        self.name = name
        self._start()

    def transcribe(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        found: list[Transcript] = self._ask("transcribe", list(segments))
        return found

    def draft(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        """The engine's own drafts, or its transcripts where it has none."""
        found: list[Transcript] = self._ask("draft", list(segments))
        return found

    def set_beam(self, beam_size: int) -> None:
        """Ignored by an engine that cannot change it."""
        self._beam_size = beam_size
        self._ask("set_beam", beam_size)

    @property
    def fixed_contexts(self) -> bool:
        """As the engine has it; so is `context_s`, which stands still beyond 30 s."""
        return self._contexts_s is not None

    def context_s(self, length_s: float) -> float:
        if self._contexts_s is None:
            return length_s
        # Never less than the engine will take.
        return self._contexts_s[min(ceil(10 * length_s), len(self._contexts_s) - 1)]

    def close(self) -> None:
        """End the child; a call after that starts a new one."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.join(2.0)
            if process.is_alive():
                process.kill()
                process.join()

    def _start(self) -> None:
        # A forked child would inherit locks of threads that it does not have, and CUDA refuses it.
        context = multiprocessing.get_context("spawn")
        mine, other = context.Pipe()
        process = context.Process(
            target=_serve,
            args=(other, self._registered, self._options, self._factory),
            name=f"asr-{self.device}",
            daemon=True,
        )
        process.start()
        other.close()
        self._process, self._pipe = process, mine
        self._generation += 1
        self.name, self.scores, self._contexts_s = self._receive(START_WITHIN_S)
        if self._beam_size is not None:
            self._ask("set_beam", self._beam_size)

    def _ask(self, what: str, *arguments: Any) -> Any:
        if self._pipe is None:
            log.warning("speech.engine_restarted", engine=self.name, device=self.device)
            self._start()
        assert self._pipe is not None
        try:
            self._pipe.send((what, arguments))
        except (OSError, ValueError) as error:
            self._died(error)
        return self._receive(self._answer_within_s)

    def _receive(self, within_s: float) -> Any:
        assert self._pipe is not None
        try:
            if not self._pipe.poll(within_s):
                self._died(TimeoutError(f"no answer for {within_s:.0f} s"))
            kind, body = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._died(error)
        if kind == "refused":
            self.close()
            spec, fields = body
            raise ModeratorError(spec, **fields)
        if kind == "failed":
            raise RuntimeError(body)
        return body

    def _died(self, error: BaseException) -> None:
        process = self._process
        if process is not None:
            process.join(0.5)
        code = process.exitcode if process is not None else None
        if isinstance(error, TimeoutError) and process is not None:
            process.kill()
        self.close()
        reason = str(error) or (f"exit {code}" if code is not None else type(error).__name__)
        raise ModeratorError(
            ENGINE_DIED, name=self._registered, device=self.device, reason=reason
        ) from error


class ScoringEngineProcess(EngineProcess):
    """An EngineProcess whose engine keeps what its encoder heard, for the second listen."""

    def encode(self, segments: Sequence[SpeechSegment]) -> _Handle:
        number: int = self._ask("encode", list(segments))
        return _Handle(self, self._generation, number)


class _Handle:
    """Encoder output that the child holds."""

    def __init__(self, engine: EngineProcess, generation: int, number: int) -> None:
        self._engine, self._generation, self._number = engine, generation, number

    def transcribe(self) -> list[Transcript]:
        found: list[Transcript] = self._asked("decode")
        return found

    def score(self, index: int, texts: Sequence[str]) -> list[float]:
        found: list[float] = self._asked("score", index, list(texts))
        return found

    def _asked(self, what: str, *arguments: Any) -> Any:
        if self._generation != self._engine._generation:
            raise RuntimeError("the process that had heard this has ended")
        return self._engine._ask(what, self._number, *arguments)


def engine_process(
    name: str, options: dict[str, Any], *, device: str = "", **more: Any
) -> EngineProcess:
    """The engine in a process, as one that scores when it does. Raises as EngineProcess."""
    engine = ScoringEngineProcess(name, options, device=device, **more)
    if engine.scores:
        return engine
    engine.close()
    return EngineProcess(name, options, device=device, **more)


def _serve(pipe: Connection, name: str, options: dict[str, Any], factory: Factory | None) -> None:
    # Ctrl-C reaches the whole group: the parent drains, and ends this process when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        if factory is None:
            from moderator.asr import ENGINES

            engine = ENGINES.create(name, **options)
        else:
            engine = factory(**options)
    except ModeratorError as error:
        pipe.send(("refused", _picklable(error)))
        return
    except Exception as error:
        pipe.send(("failed", f"{type(error).__name__}: {error}"))
        return
    context_s = context_of(engine)
    contexts_s = [context_s(length_s) for length_s in _LENGTHS_S] if context_s else None
    pipe.send(("done", (engine.name, isinstance(engine, Scores), contexts_s)))
    _answer(pipe, engine)


def _answer(pipe: Connection, engine: AsrEngine) -> None:
    held: OrderedDict[int, Encoded] = OrderedDict()
    numbers = iter(range(1, 2**62))

    def encode(segments: list[SpeechSegment]) -> int:
        assert isinstance(engine, Scores)
        number = next(numbers)
        held[number] = engine.encode(segments)
        while len(held) > _KEPT:
            held.popitem(last=False)
        return number

    calls: dict[str, Callable[..., Any]] = {
        "transcribe": engine.transcribe,
        "draft": getattr(engine, "draft", engine.transcribe),
        "set_beam": getattr(engine, "set_beam", lambda beam_size: None),
        "encode": encode,
        "decode": lambda number: held[number].transcribe(),
        "score": lambda number, index, texts: held[number].score(index, texts),
    }
    while True:
        try:
            what, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = ("done", calls[what](*arguments))
        except Exception as error:
            answer = ("failed", f"{type(error).__name__}: {error}")
        try:
            pipe.send(answer)
        except OSError:
            return


def _picklable(error: ModeratorError) -> tuple[ErrorSpec, dict[str, str]]:
    return error.spec, {name: str(value) for name, value in error.fields.items()}
