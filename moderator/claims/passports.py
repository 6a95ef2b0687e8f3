"""Product passports: what is known about a product, and what that allows it to claim."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from moderator.errors import (
    MISSING_FILE,
    PASSPORT_INVALID,
    UNREADABLE,
    ModeratorError,
)
from moderator.records import PRODUCT_CATEGORIES

DocumentKind = Literal[
    "special_cosmetic",
    "ordinary_cosmetic",
    "efficacy_evaluation",
    "health_food",
    "drug",
    "medical_device",
    "ad_approval",
    "patent",
    "test_report",
    "citation_source",
    "sales_report",
    "award",
    "qualification",
    "authorization",
    "organic",
    "geographical_indication",
    "origin_proof",
    "gem_certificate",
    "price_record",
    "stock_record",
    "promotion_rules",
    "standard",
]

DOCUMENT_NAMES: dict[str, tuple[str, str]] = {
    "special_cosmetic": ("特殊化妆品注册证", "special cosmetic registration"),
    "ordinary_cosmetic": ("普通化妆品备案", "ordinary cosmetic filing"),
    "efficacy_evaluation": ("化妆品功效评价资料摘要", "published efficacy evaluation"),
    "health_food": ("保健食品注册或备案", "health food registration or filing"),
    "drug": ("药品批准文号", "drug approval number"),
    "medical_device": ("医疗器械注册或备案", "medical device registration or filing"),
    "ad_approval": ("广告审查批准文号", "advertisement approval number"),
    "patent": ("专利证书（专利号与种类）", "patent certificate"),
    "test_report": ("检测报告", "test report"),
    "citation_source": ("引证出处", "source of the citation"),
    "sales_report": ("销量或市场数据报告", "sales or market report"),
    "award": ("获奖证书", "award certificate"),
    "qualification": ("资质证书", "qualification certificate"),
    "authorization": ("授权书", "authorisation"),
    "organic": ("有机产品认证", "organic certificate"),
    "geographical_indication": ("地理标志", "geographical indication"),
    "origin_proof": ("产地证明", "proof of origin"),
    "gem_certificate": ("珠宝玉石鉴定证书", "gem certificate"),
    "price_record": ("价格记录", "price record"),
    "stock_record": ("库存记录", "stock record"),
    "promotion_rules": ("活动规则", "promotion rules"),
    "standard": ("执行标准编号", "standard number"),
}

NO_END = ("长期", "永久")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Document(_Strict):
    """A registration, approval, certificate or other proof.

    `functions` and `scope` say what it was granted for; one that names neither covers its product.
    After `valid_until` (ISO date, empty or 长期 for no end) it proves nothing.
    """

    kind: DocumentKind
    number: str = ""
    title: str = ""
    scope: str = ""
    source: str = ""
    issuer: str = ""
    valid_until: str = ""
    functions: tuple[str, ...] = ()
    quantity: float | None = Field(default=None, ge=0, description="Of a stock record: pieces.")

    @field_validator("valid_until")
    @classmethod
    def _is_a_date(cls, value: str) -> str:
        if value and value not in NO_END:
            date.fromisoformat(value)
        return value

    def expired(self, on: date | None = None) -> bool:
        """Whether its last day lies before `on` (today)."""
        if not self.valid_until or self.valid_until in NO_END:
            return False
        return date.fromisoformat(self.valid_until) < (on or date.today())


class PricePoint(_Strict):
    date: str
    price: float = Field(ge=0)


class Price(_Strict):
    """Yuan. `list` is the marked price, `live` the price in the room."""

    list: float | None = Field(default=None, ge=0)
    live: float | None = Field(default=None, ge=0)
    lowest_30d: float | None = Field(default=None, ge=0)
    history: tuple[PricePoint, ...] = ()


class Passport(_Strict):
    """One product. Only `category` decides by itself; all else is proof."""

    id: str = ""
    name: str = ""
    aliases: tuple[str, ...] = ()
    category: str = "other"
    registrations: tuple[Document, ...] = ()
    approvals: tuple[Document, ...] = ()
    certificates: tuple[Document, ...] = ()
    ingredients: tuple[str, ...] = ()
    origin: str = ""
    price: Price = Price()
    proofs: tuple[Document, ...] = ()
    traceability_code: str = ""

    def documents(self) -> Iterable[Document]:
        yield from self.registrations
        yield from self.approvals
        yield from self.certificates
        yield from self.proofs

    def has(self, kind: str) -> bool:
        """Whether it carries a document of this kind that is still valid."""
        return any(
            document.kind == kind and not document.expired() for document in self.documents()
        )

    def functions(self) -> Iterable[str]:
        """The functions that valid registrations and approvals allow it to claim."""
        for document in (*self.registrations, *self.approvals):
            if document.expired():
                continue
            yield from document.functions
            if document.scope:
                yield document.scope

    def known_as(self) -> tuple[str, ...]:
        return tuple(name for name in (self.name, *self.aliases) if name)


def passport_from(data: Any, place: str) -> Passport:
    """Check one passport. Raises LM-301 naming the field at fault under `place`."""
    if not isinstance(data, dict):
        raise ModeratorError(PASSPORT_INVALID, place=place, reason="not a mapping of fields")
    try:
        passport = Passport.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ModeratorError(
            PASSPORT_INVALID, place=f"{place}: {field}", reason=first["msg"]
        ) from None
    if passport.category not in PRODUCT_CATEGORIES:
        raise ModeratorError(
            PASSPORT_INVALID,
            place=f"{place}: category",
            reason=f"'{passport.category}' is not one of {', '.join(PRODUCT_CATEGORIES)}",
        )
    return passport


def load_passports(path: Path) -> list[Passport]:
    """Read passports from YAML, JSON (a list, or `{products: [...]}`) or CSV.

    In CSV, list fields are separated by `;` and documents are written `kind:number`.
    """
    if not path.exists():
        raise ModeratorError(MISSING_FILE, path=path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ModeratorError(UNREADABLE, path=path, reason=error) from None
    if path.suffix.lower() == ".csv":
        rows = list(csv.DictReader(text.splitlines()))
        return [
            passport_from(_from_csv(row), f"{path}:{number}")
            for number, row in enumerate(rows, start=2)
        ]
    try:
        data = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ModeratorError(
            PASSPORT_INVALID, place=str(path), reason=str(error).replace("\n", " ")
        ) from None
    if isinstance(data, dict) and set(data) == {"products"}:
        data = data["products"]
    if isinstance(data, dict):
        data = [data]
    if not isinstance(data, list):
        raise ModeratorError(PASSPORT_INVALID, place=str(path), reason="not a list of passports")
    return [passport_from(item, f"{path}[{index}]") for index, item in enumerate(data)]


def _from_csv(row: dict[str, str | None]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in row.items():
        if key is None or value is None or not value.strip():
            continue
        value = value.strip()
        if key in ("aliases", "ingredients"):
            out[key] = [part.strip() for part in value.split(";") if part.strip()]
        elif key in ("registrations", "approvals", "certificates", "proofs"):
            out[key] = [
                dict(zip(("kind", "number"), part.strip().split(":", 1), strict=False))
                for part in value.split(";")
                if part.strip()
            ]
        elif key in ("list", "live", "lowest_30d"):
            out.setdefault("price", {})[key] = value
        else:
            out[key] = value
    return out
