"""Regular expressions of rules: macros filled in, bounded in time, gated by literals.

`{gap:n}`, `{num}` and `{lexicon}` are the macros that docs/rules.md describes. A gate is
a set of literal strings of which every match must contain one; the matcher runs an
expression only on text that passes all its gates, which is what makes hundreds of rules
cheap.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as sre_parser  # type: ignore[attr-defined]
from typing import Any

import regex

from moderator.errors import RULE_LEXICON, RULE_REGEX, RULE_SLOW, ModeratorError

TIMEOUT_S = 0.05
"""Longest one expression may take on one observation before it is given up."""

LINT_TIMEOUT_S = 0.15
"""The same on the hostile texts of the lint, which are several times as long as an observation."""
TRIES = 3
"""A machine that is busy with something else makes any expression slow once."""

_MACRO = re.compile(r"\{(gap:\d{1,2}|num|[a-z_][a-z0-9_]*)\}")
_NUMBER = r"(?:[¥$]?\d+(?:\.\d+)?|[零一二两三四五六七八九十百千万亿半几]+)"
_NUMBER_STAND_IN = r"[¥$\d零一二两三四五六七八九十百千万亿半几]"


class PatternTimeout(Exception):
    """The expression was given up on this text."""


@dataclass(frozen=True)
class Pattern:
    """An expression of a rule. Without `gates` it runs on every text.

    It is compiled when it is first run: a script of one line meets few of the hundreds.
    """

    source: str
    place: str
    filled: str
    lexicons: Mapping[str, tuple[str, ...]]
    gates: tuple[frozenset[str], ...]

    @cached_property
    def compiled(self) -> Any:
        try:
            return regex.compile(self.filled, flags=regex.V1, **self.lexicons)
        except (regex.error, OverflowError, RecursionError) as error:
            raise ModeratorError(RULE_REGEX, place=self.place, reason=error) from None

    def find(self, text: str, timeout_s: float = TIMEOUT_S) -> Iterator[tuple[int, int]]:
        """Spans of the non-empty matches. Raises PatternTimeout past `timeout_s`."""
        try:
            for match in self.compiled.finditer(text, timeout=timeout_s, concurrent=False):
                if match.end() > match.start():
                    yield match.span()
        except TimeoutError:
            raise PatternTimeout(self.place) from None

    def check_speed(self) -> None:
        """Try it on hostile text. Raises LM-210 when it takes too long, each time it is tried."""
        seeds = [min(gates) for gates in self.gates] or ["最好"]
        for text in _hostile_texts(seeds):
            if all(self._is_slow(text) for _ in range(TRIES)):
                raise ModeratorError(
                    RULE_SLOW,
                    place=self.place,
                    limit_ms=round(LINT_TIMEOUT_S * 1000),
                    chars=len(text),
                )

    def _is_slow(self, text: str) -> bool:
        try:
            for _ in self.find(text, LINT_TIMEOUT_S):
                pass
        except PatternTimeout:
            return True
        return False


class Gatekeeper:
    """Which of many expressions a text can match at all, by the literals found in it.

    Each literal carries a mask (an int with a bit for each expression and gate that it opens): the
    masks of a text's literals, or-ed together, say which expressions have all their gates open.
    """

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._count = len(patterns)
        self._open = 0
        masks: dict[str, int] = defaultdict(int)
        for number, pattern in enumerate(patterns):
            for level in range(MOST_GATES):
                bit = 1 << (level * self._count + number)
                if level >= len(pattern.gates):
                    self._open |= bit
                    continue
                for literal in pattern.gates[level]:
                    masks[literal] |= bit
        self.masks: Mapping[str, int] = dict(masks)
        """Every literal of a gate with its mask."""

    def passed(self, mask: int) -> Iterator[int]:
        """Numbers of the expressions to run, given the masks of a text's literals or-ed."""
        ready = mask | self._open
        for level in range(1, MOST_GATES):
            ready &= (mask | self._open) >> (level * self._count)
        ready &= (1 << self._count) - 1
        while ready:
            lowest = ready & -ready
            yield lowest.bit_length() - 1
            ready ^= lowest


def compile_pattern(source: str, lexicons: Mapping[str, tuple[str, ...]], place: str) -> Pattern:
    """Fill in and check one expression. Raises LM-205 (bad regex) or LM-211 (unknown lexicon)."""
    named: dict[str, tuple[str, ...]] = {}
    stand_ins: dict[str, str] = {}

    def fill(macro: re.Match[str]) -> str:
        name = macro[1]
        if name.startswith("gap:"):
            return f"[^。！？\\n]{{0,{name[4:]}}}?"
        if name == "num":
            return _NUMBER
        if name not in lexicons:
            near = difflib.get_close_matches(name, lexicons, n=1)
            raise ModeratorError(
                RULE_LEXICON,
                place=place,
                name=name,
                hint=f"; did you mean '{near[0]}'?" if near else "",
            )
        named[name] = lexicons[name]
        return f"\\L<{name}>"

    def stand_in(macro: re.Match[str]) -> str:
        name = macro[1]
        if name.startswith("gap:"):
            return "(?:.|x)*"
        if name == "num":
            return _NUMBER_STAND_IN
        return stand_ins.setdefault(name, chr(0xE000 + len(stand_ins)))

    filled = _MACRO.sub(fill, source)
    try:
        shape = sre_parser.parse(_MACRO.sub(stand_in, source))
    except (re.error, OverflowError, RecursionError) as error:
        raise ModeratorError(RULE_REGEX, place=place, reason=error) from None
    lexicon_of = {char: named[name] for name, char in stand_ins.items()}
    gates = sorted((_expand(one, lexicon_of) for one in _all_gates(shape)), key=_cost)
    return Pattern(source, place, filled, named, tuple(gates[:MOST_GATES]))


def alternatives(source: str) -> list[str]:
    """The alternatives of an expression at its outermost level: `a(?:b|c)|d` → `a(?:b|c)`, `d`.

    Each alone has far more telling gates than all of them together.
    """
    parts = [""]
    depth = 0
    in_class = False
    at = 0
    while at < len(source):
        char = source[at]
        if char == "\\":
            parts[-1] += source[at : at + 2]
            at += 2
            continue
        if char == "[":
            in_class = True
        elif char == "]":
            in_class = False
        elif not in_class and char in "()":
            depth += 1 if char == "(" else -1
        if char == "|" and depth == 0 and not in_class:
            parts.append("")
        else:
            parts[-1] += char
        at += 1
    return parts


MOST_GATES = 3
"""Gates kept for each expression: the most telling ones."""

Gates = frozenset[str] | None
"""Strings of which any match contains one; None: nothing is known."""


def _all_gates(shape: Any) -> list[frozenset[str]]:
    """One gate for each part of the sequence that has one; a match passes them all."""
    found: list[frozenset[str]] = []
    run = ""
    for op, value in shape:
        if op is sre.LITERAL:
            run += chr(value)
            continue
        if run:
            found.append(frozenset([run]))
            run = ""
        if op is sre.SUBPATTERN:
            found += _all_gates(value[3])
        elif (gates := _gates_of(op, value)) is not None:
            found.append(gates)
    if run:
        found.append(frozenset([run]))
    return found


def _gates(shape: Any) -> Gates:
    best: Gates = None
    for gates in _all_gates(shape):
        best = _better(best, gates)
    return best


def _gates_of(op: Any, value: Any) -> Gates:
    if op is sre.SUBPATTERN:
        return _gates(value[3])
    if op is sre.BRANCH:
        union: set[str] = set()
        for branch in value[1]:
            gates = _gates(branch)
            if gates is None:
                return None
            union |= gates
        return frozenset(union)
    if op in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        return _gates(value[2]) if value[0] >= 1 else None
    if op is sre.IN and all(kind is sre.LITERAL for kind, _ in value):
        return frozenset(chr(code) for _, code in value)
    if op is sre.ATOMIC_GROUP:
        return _gates(value)
    return None


def _better(one: Gates, other: Gates) -> Gates:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other, key=lambda gates: (min(map(_weight, gates)), -len(gates)))


def _weight(gate: str) -> int:
    # A lexicon's stand-in counts as two characters, as its terms mostly do.
    return sum(2 if "\ue000" <= c <= "\uf8ff" else 1 for c in gate)


def _cost(gates: frozenset[str]) -> tuple[int, int]:
    return -min(map(len, gates)), len(gates)


def _expand(gates: frozenset[str], lexicon_of: dict[str, tuple[str, ...]]) -> frozenset[str]:
    out: set[str] = set()
    for gate in gates:
        holders = [c for c in gate if c in lexicon_of]
        if not holders:
            out.add(gate)
        elif len(gate) == 1:
            out.update(lexicon_of[gate])
        else:
            # A run such as 「治好<disease>」: its plain part is gate enough when it is a word.
            plain = max(re.split("[\ue000-\uf8ff]", gate), key=len)
            out.update([plain] if len(plain) >= 2 else lexicon_of[holders[0]])
    return frozenset(out)


def _hostile_texts(seeds: list[str]) -> Iterator[str]:
    """Repeats that almost match: what the expression looks for, over and over, then a breaker.

    The seeds follow the breaker once more, so that an engine which looks for a required
    ending first does not give up early.
    """
    ending = "y" + "".join(seeds)
    for seed in (*seeds, "".join(seeds)):
        for unit in (seed, seed[0], seed + "的"):
            yield unit * (400 // len(unit)) + ending
    for char in "a1最":
        yield char * 400 + ending
