"""Greedy decoding of a transformers Whisper in buffers that never move.

A decoder step of a small Whisper is some hundred short kernels, and starting them from Python takes
longer than running them. So everything a step touches (the keys and values of both attentions, the
last tokens, the position) lies in tensors of fixed shape and place; on CUDA the step is then
captured once for each shape as a graph, and a token costs one launch. On the CPU the same code runs
as it is.

The weights and layers are those of `WhisperForConditionalGeneration`; how a step goes follows
"Robust Speech Recognition via Large-Scale Weak Supervision" (Radford et al., 2022), section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

ROWS = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256)
"""Numbers of rows that are decoded; a batch between two of them is filled up to the larger."""
_STEPS_A_LOOK = 8
"""Asking the device whether all rows have ended makes the host wait for it."""
_GRAPHS_KEPT = 24


@dataclass(frozen=True, slots=True)
class Greedy:
    """Token ids of each row, the end left out; `first` are the logits after the start-of-transcript
    token, shape (rows, vocabulary), float32."""

    tokens: list[list[int]]
    first: Any


class StaticGreedyDecoder:
    """Decodes batches of encoder output greedily; not thread-safe, as engines are not.

    `start` is what each transcript begins with, `end` the id that ends it; `never` and `not_first`
    are ids that the model's generation settings suppress altogether and as the first token.
    `capture` uses CUDA graphs; where capturing fails it is given up, and `on_failure` told why.
    """

    def __init__(
        self,
        model: Any,
        start: Sequence[int],
        end: int,
        never: Sequence[int] = (),
        not_first: Sequence[int] = (),
        *,
        capture: bool = False,
        on_failure: Callable[[Exception], None] | None = None,
    ) -> None:
        import torch

        self._torch: Any = torch
        self._decoder = model.model.decoder
        self._heads = model.config.decoder_attention_heads
        self._most_positions = model.config.max_target_positions
        self._device, self._dtype = model.device, model.dtype
        self._start = torch.tensor([list(start)], device=self._device)
        self._end = end
        self._never = self._penalty(never)
        self._not_first = self._never + self._penalty(not_first)
        self.captures = capture
        self._on_failure = on_failure
        self._states: dict[tuple[int, int, int], _State] = {}
        self._pool: Any = None

    def decode(self, hidden: Any, most: int) -> Greedy:
        """Up to `most` tokens of each row of `hidden`, shape (rows, steps, width).

        More rows than the largest of ROWS raise ValueError.
        """
        torch = self._torch
        count, steps, _ = hidden.shape
        rows = rows_for(count)
        length = self._start.shape[1]
        most = min(most, self._most_positions - length)
        with torch.inference_mode():
            state = self._state(rows, steps, length + most)
            first = self._begin(state, hidden)[:count]
            for done in range(1, most):
                if done % _STEPS_A_LOOK == 0 and bool(state.ended[:count].all()):
                    break
                self._advance(state)
            heard = state.heard[:count, length:].tolist()
        return Greedy([self._until_end(row) for row in heard], first)

    def _until_end(self, row: list[int]) -> list[int]:
        return row[: row.index(self._end)] if self._end in row else row

    def _state(self, rows: int, steps: int, positions: int) -> _State:
        key = rows, steps, positions
        state = self._states.pop(key, None)
        if state is None:
            while len(self._states) >= _GRAPHS_KEPT:
                del self._states[next(iter(self._states))]
            state = self._new_state(rows, steps, positions)
        self._states[key] = state  # the last used is the last to go
        return state

    def _new_state(self, rows: int, steps: int, positions: int) -> _State:
        torch = self._torch
        width = self._decoder.config.d_model // self._heads

        def buffers(length: int) -> list[Any]:
            shape = rows, self._heads, length, width
            return [
                torch.zeros(shape, dtype=self._dtype, device=self._device)
                for _ in self._decoder.layers
            ]

        def whole(*shape: int) -> Any:
            return torch.zeros(shape, dtype=torch.long, device=self._device)

        return _State(
            keys=buffers(positions),
            values=buffers(positions),
            cross_keys=buffers(steps),
            cross_values=buffers(steps),
            columns=torch.arange(positions, device=self._device),
            position=whole(1),
            last=whole(rows, 1),
            heard=whole(rows, positions),
            ended=torch.zeros(rows, dtype=torch.bool, device=self._device),
        )

    def _begin(self, state: _State, hidden: Any) -> Any:
        """Hear the encoder, read the start tokens, choose the first token; returns `first`."""
        torch = self._torch
        count = hidden.shape[0]
        for index, layer in enumerate(self._decoder.layers):
            attention = layer.encoder_attn
            for buffer, project in (
                (state.cross_keys[index], attention.k_proj),
                (state.cross_values[index], attention.v_proj),
            ):
                buffer[:count].copy_(self._split(project(hidden)))
        length = self._start.shape[1]
        ids = self._start.expand(state.last.shape[0], -1)
        state.heard.fill_(self._end)
        # Rows that only fill up the batch have ended before they begin.
        state.ended.copy_(torch.arange(len(state.ended), device=self._device) >= count)
        out = self._through(state, ids, state.columns[:length])
        logits = self._logits(out[:, [0, length - 1]])
        state.position.fill_(length)
        self._choose(state, logits[:, 1] + self._not_first)
        return logits[:, 0]

    def _advance(self, state: _State) -> None:
        if not self.captures:
            self._step(state)
            return
        if state.graph is None:
            try:
                self._capture(state)
            except RuntimeError as error:
                self.captures = False
                if self._on_failure is not None:
                    self._on_failure(error)
                self._step(state)
                return
        state.graph.replay()

    def _capture(self, state: _State) -> None:
        """Record a step. What the trial runs changed is put back."""
        torch = self._torch
        kept = [one.clone() for one in (state.position, state.last, state.heard, state.ended)]

        def restore() -> None:
            for one, before in zip(
                (state.position, state.last, state.heard, state.ended), kept, strict=True
            ):
                one.copy_(before)

        with torch.cuda.device(self._device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(2):
                    self._step(state)
                restore()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                self._step(state)
            restore()
        self._pool = self._pool or graph.pool()
        state.graph = graph

    def _step(self, state: _State) -> None:
        """One token for every row: everything here happens on the device."""
        at = state.position - 1
        out = self._through(state, state.last, at)
        self._choose(state, self._logits(out[:, -1]) + self._never)

    def _choose(self, state: _State, logits: Any) -> None:
        torch = self._torch
        token = logits.argmax(-1)
        token = torch.where(state.ended, torch.full_like(token, self._end), token)
        state.ended.logical_or_(token == self._end)
        state.last.copy_(token[:, None])
        state.heard.index_copy_(1, state.position, token[:, None])
        state.position.add_(1)

    def _through(self, state: _State, ids: Any, positions: Any) -> Any:
        """The decoder over `ids`, shape (rows, n), at `positions`, shape (n,)."""
        attend = self._torch.nn.functional.scaled_dot_product_attention
        decoder = self._decoder
        x = decoder.embed_tokens(ids) * decoder.embed_scale
        x = x + decoder.embed_positions.weight[positions]
        seen = state.columns[None, :] <= positions[:, None]
        for index, layer in enumerate(decoder.layers):
            y, own = layer.self_attn_layer_norm(x), layer.self_attn
            state.keys[index].index_copy_(2, positions, self._split(own.k_proj(y)))
            state.values[index].index_copy_(2, positions, self._split(own.v_proj(y)))
            query = self._split(own.q_proj(y) * own.scaling)
            keys, values = state.keys[index], state.values[index]
            x = x + own.out_proj(
                self._joined(attend(query, keys, values, attn_mask=seen, scale=1.0))
            )
            y, cross = layer.encoder_attn_layer_norm(x), layer.encoder_attn
            query = self._split(cross.q_proj(y) * cross.scaling)
            keys, values = state.cross_keys[index], state.cross_values[index]
            x = x + cross.out_proj(self._joined(attend(query, keys, values, scale=1.0)))
            y = layer.final_layer_norm(x)
            x = x + layer.fc2(layer.activation_fn(layer.fc1(y)))
        return decoder.layer_norm(x)

    def _logits(self, out: Any) -> Any:
        weight = self._decoder.embed_tokens.weight
        return self._torch.nn.functional.linear(out, weight).float()

    def _split(self, projected: Any) -> Any:
        """(rows, n, width) → (rows, heads, n, width of a head)."""
        rows, n, _ = projected.shape
        return projected.view(rows, n, self._heads, -1).transpose(1, 2)

    def _joined(self, attended: Any) -> Any:
        rows, _, n, _ = attended.shape
        return attended.transpose(1, 2).reshape(rows, n, -1)

    def _penalty(self, ids: Sequence[int]) -> Any:
        size = self._decoder.embed_tokens.weight.shape[0]
        penalty = self._torch.zeros(size, device=self._device)
        if len(ids):
            penalty[list(ids)] = float("-inf")
        return penalty


def rows_for(count: int) -> int:
    """The smallest of ROWS that holds `count`. Raises ValueError when none does."""
    for rows in ROWS:
        if count <= rows:
            return rows
    raise ValueError(f"{count} rows exceed {ROWS[-1]}")


@dataclass(slots=True)
class _State:
    """The buffers of one shape. `heard` is all tokens so far, `position` where the next goes."""

    keys: list[Any]
    values: list[Any]
    cross_keys: list[Any]
    cross_values: list[Any]
    columns: Any
    position: Any
    last: Any
    heard: Any
    ended: Any
    graph: Any = None
