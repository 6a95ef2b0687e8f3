"""What goods are said to consist of, or to be free of, held against the passport's ingredients.

An ingredient of a passport is a name, with its share where it is known: `羊毛 60%`, `足银 990`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moderator.claims.amounts import per_cents_in
from moderator.claims.normalise import normalise

TOLERANCE = 1.0
"""Percentage points that a spoken figure may be above the recorded one."""
NEAR_CHARS = 6
"""Characters between a percentage and the material it is of."""

_SHARE = re.compile(r"(?P<share>\d+(?:\.\d+)?)\s*%|(?<!\d)(?P<fineness>9\d\d)(?!\d)")
_WHOLLY = re.compile(
    r"100%|百分百|百分之一?百|全(?!网|场|国|部|家|天)|纯(?!正|天然)|头层|真(?=皮)|十足"
)
_FREE = re.compile(
    r"(?:0|零|无|不含|不加|不添加|未添加|没有添加|没有|没加|没放|不放|拒绝)(?:任何|一点|半点|一滴|人工|化学|的|含有|添加(?=蔗糖|糖|防腐|香精|色素))*"
)

_Answer = tuple[bool, str]


@dataclass(frozen=True, slots=True)
class _Part:
    """An ingredient as recorded. `share` is in per cent."""

    shown: str
    name: str
    share: float | None


@dataclass(frozen=True, slots=True)
class _FreeOf:
    of: tuple[str, ...]
    ruled_out: tuple[str, ...]
    listed: bool


class IngredientFacts:
    def __init__(
        self, materials: Iterable[Sequence[str]], free_of: Iterable[Mapping[str, Any]]
    ) -> None:
        self._groups = [tuple(_plain(name) for name in group) for group in materials]
        self._group_of = {name: group for group in self._groups for name in group}
        names = sorted(self._group_of, key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, names))) if names else None
        self._free_of = [
            _FreeOf(
                tuple(sorted(map(str, entry["of"]), key=len, reverse=True)),
                tuple(_plain(name) for name in entry["not"]),
                bool(entry.get("listed", False)),
            )
            for entry in free_of
        ]

    def answer(self, words: str, sentence: str, ingredients: Sequence[str]) -> _Answer | None:
        """Contradiction or agreement of the claim `words` with the recorded ingredients."""
        if not ingredients:
            return None
        parts = [_part(one) for one in ingredients]
        free = self._free(words, parts)
        return free if free is not None else self._share(words, sentence, parts)

    def _free(self, words: str, parts: Sequence[_Part]) -> _Answer | None:
        for match in _FREE.finditer(words):
            rest = words[match.end() :]
            fitting = [
                (len(name), entry, name)
                for entry in self._free_of
                for name in entry.of
                if rest.startswith(name)
            ]
            if not fitting:
                continue
            _, entry, name = max(fitting, key=lambda one: one[0])
            found = [p.shown for p in parts if any(word in p.name for word in entry.ruled_out)]
            if found:
                return False, f"说不含{name}，档案成分中有{'、'.join(found)}"
            if entry.listed:
                return True, f"说不含{name}，档案成分中没有"
        return None

    def _share(self, words: str, sentence: str, parts: Sequence[_Part]) -> _Answer | None:
        """百分百羊毛, 含绒量 90%: the share recorded for it, and what else is in it."""
        if self._names is None:
            return None
        found = list(self._names.finditer(words))
        if not found:
            found = list(self._names.finditer(sentence)) if per_cents_in(words) else []
            words = sentence if found else words
        shares = per_cents_in(words)
        agreed = None
        for match in found:
            near = [
                s for s in shares if max(s.begin - match.end(), match.start() - s.end) <= NEAR_CHARS
            ]
            said = near[0].value if near else None
            if said is None:
                whole = _WHOLLY.search(words, max(0, match.start() - 4), match.end())
                said = 100.0 if whole else None
            group = self._group_of[match.group()]
            answer = _compared(match.group(), said, group, parts)
            if answer is not None and not answer[0]:
                return answer
            agreed = agreed or answer
        return agreed


def _compared(
    said_name: str, said: float | None, group: Sequence[str], parts: Sequence[_Part]
) -> _Answer | None:
    own = [part for part in parts if any(name in part.name for name in group)]
    recorded = "、".join(part.shown for part in parts)
    claimed = said_name if said is None else f"{said_name} {said:g}%"
    if not own:
        return False, f"说是{claimed}，档案成分为{recorded}"
    if said is None:
        return True, f"说有{said_name}，档案成分为{recorded}"
    share = sum(part.share for part in own if part.share is not None)
    if all(part.share is None for part in own):
        # Without figures, only that something else is in it contradicts 百分百.
        if said < 100:
            return None
        return len(own) == len(parts), f"说是{claimed}，档案成分为{recorded}"
    return said <= share + TOLERANCE, f"说是{claimed}，档案成分为{recorded}"


def _part(shown: str) -> _Part:
    name = _plain(shown)
    match = _SHARE.search(name)
    share = None
    if match is not None:
        share = float(match["share"]) if match["share"] else int(match["fineness"]) / 10
    return _Part(shown, name, share)


def _plain(text: str) -> str:
    return normalise(str(text)).text
