"""Where goods are said to be from, held against the passport's place of origin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moderator.claims.normalise import normalise

HOME = "中国"

_Answer = tuple[bool, str]


@dataclass(frozen=True, slots=True)
class _Place:
    """A place with all that it lies in, the widest first: 中国, 江苏, 苏州, 阳澄湖."""

    name: str
    path: tuple[str, ...]


class OriginFacts:
    def __init__(self, words: Mapping[str, Any]) -> None:
        self._places: dict[str, tuple[str, ...]] = {}
        for province, cities in words.get("china", {}).items():
            self._places[province] = (HOME, province)
            for city, known in (cities or {}).items():
                self._places[city] = (HOME, province, city)
                for name in known or ():
                    self._places[name] = (HOME, province, city, name)
        for country in words.get("abroad", ()):
            self._places[country] = (country,)
        for name, meant in words.get("also_called", {}).items():
            self._places[name] = self._places.get(meant, (meant,))
        self._imported = tuple(words.get("imported", ()))
        self._domestic = tuple(words.get("domestic", ()))
        not_origin = "|".join(map(re.escape, words.get("not_origin", ())))
        self._not_origin = re.compile(f"(?:的)?(?:{not_origin})") if not_origin else None
        names = sorted(self._places, key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, names))) if names else None

    def answer(self, words: str, origin: str) -> _Answer | None:
        """Contradiction or agreement of the places named in `words` with `origin`.

        A place that merely lies near agrees with nothing and contradicts nothing: only one in
        another city (or province, or country) than the recorded one does.
        """
        recorded_text = normalise(origin).text
        if not recorded_text:
            return None
        recorded = self._places_in(recorded_text)
        path = max((place.path for place in recorded), key=len, default=())
        shown = f"档案产地为{origin}"
        said = [place for place in self._places_in(words) if not self._is_style(place, words)]
        agreed = None
        for place in said:
            if place.name in recorded_text or place.path == path[: len(place.path)]:
                agreed = agreed or (True, f"说产地{place.name}，{shown}")
            elif path and _apart(place.path, path):
                return False, f"说产地{place.name}，{shown}"
        if path and not said:
            if any(word in words for word in self._imported) and not self._of_parts(words):
                return path[0] != HOME, f"说是进口，{shown}"
            if any(word in words for word in self._domestic):
                return path[0] == HOME, f"说是国产，{shown}"
        if path and said and path[0] == HOME and any(word in words for word in self._imported):
            return False, f"说是进口，{shown}"
        return agreed

    def _places_in(self, text: str) -> list[_Place]:
        if self._names is None:
            return []
        found = [_Place(m.group(), self._places[m.group()]) for m in self._names.finditer(text)]
        # 安徽黄山: the one within the other says where; the wider adds nothing.
        return [
            place
            for place in found
            if not any(place.name in other.path[:-1] for other in found if other is not place)
        ]

    def _is_style(self, place: _Place, words: str) -> bool:
        """德国工艺 and 新疆风味 say nothing of where the goods were made."""
        if self._not_origin is None:
            return False
        at = words.find(place.name)
        return self._not_origin.match(words, at + len(place.name)) is not None

    def _of_parts(self, words: str) -> bool:
        """进口面料: of what the goods are made, not where."""
        return (
            re.search("进口(?:的)?(?:原料|食材|面料|牛皮|芯片|零件|配件|机芯|发动机)", words)
            is not None
        )


def _apart(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two places exclude each other: they part ways before either path ends."""
    return any(a != b for a, b in zip(one, other, strict=False))
