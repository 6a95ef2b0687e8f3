"""Articles of law as rules cite them: `cn.ad_law.9#（三）` is 广告法 第九条（三）."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from moderator.claims.yaml_places import PlacedYaml
from moderator.errors import RULE_FIELD, RULE_LAW, ModeratorError
from moderator.records import LawRef


@dataclass(frozen=True, slots=True)
class Article:
    """`text` is the article as read at its source, empty where it was not verified."""

    statute: str
    title: str
    number: str
    name: str
    effective: str
    status: Literal["verbatim", "partial", "unverified"]
    text: str
    note: str
    source: str


class LawBook(Mapping[str, Article]):
    """`statute.article` → Article."""

    def __init__(self, articles: dict[str, Article]) -> None:
        self._articles = articles

    def __getitem__(self, key: str) -> Article:
        return self._articles[key]

    def __iter__(self) -> Any:
        return iter(self._articles)

    def __len__(self) -> int:
        return len(self._articles)

    def cite(self, reference: str, place: str) -> LawRef:
        """Resolve a reference as a rule writes it. Raises LM-207 when it does not."""
        key, _, item = reference.partition("#")
        article = self._articles.get(key)
        if article is None:
            near = difflib.get_close_matches(key, self._articles, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ModeratorError(RULE_LAW, place=place, ref=reference, hint=hint)
        return LawRef(article.title, article.name + item, article.effective)

    def article_of(self, reference: str) -> Article:
        return self._articles[reference.partition("#")[0]]


def load_law(folder: Path) -> LawBook:
    """Read every statute file in `folder`. Raises LM-201 or LM-204 with the place."""
    articles: dict[str, Article] = {}
    for path in sorted(folder.glob("*.yaml")):
        placed = PlacedYaml(path)
        body = placed.mapping()
        try:
            for entry in body["articles"]:
                key = f"{body['id']}.{entry['id']}"
                articles[key] = Article(
                    statute=body["id"],
                    title=body["title"],
                    number=str(entry["id"]),
                    name=entry["article"],
                    effective=str(entry.get("effective", body["effective"])),
                    status=entry["status"],
                    text=entry.get("text", "").rstrip("\n"),
                    note=entry.get("note", ""),
                    source=str(body.get("source", "")),
                )
        except (KeyError, TypeError) as error:
            raise ModeratorError(
                RULE_FIELD, place=str(path), reason=f"field {error} is missing or of the wrong kind"
            ) from None
    return LawBook(articles)
