"""Rule packs: read, checked against the published schema, resolved, ready to compile.

The format is described in docs/rules.md. Loading never runs anything a rule says.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from moderator.claims import rehearing
from moderator.claims.law import LawBook, load_law
from moderator.claims.passports import Passport, passport_from
from moderator.claims.weighing import Weights, weights_from
from moderator.claims.yaml_places import PlacedYaml, Schema
from moderator.errors import (
    RULE_DIR,
    RULE_DUPLICATE,
    RULE_FIELD,
    RULE_LEXICON,
    ModeratorError,
)
from moderator.records import Disposition, LawRef, Severity

AIDS = (
    "products.yaml",
    "morphs.yaml",
    "near_glyphs.yaml",
    "context.yaml",
    "everyday_words.yaml",
    "misheard.yaml",
    "weights.yaml",
    "facts.yaml",
    "audiences.yaml",
    "exemptions.yaml",
    "rewrites.yaml",
    "small_talk.yaml",
    "talk_words.txt",
    "talk_pairs.txt",
)
"""What a pack holds beside its rules; a pack without one of them takes the shipped one."""
TEST_CHARS_PER_S = 5.0
"""How fast the observations of a test are spoken."""
HIDDEN_LEXICONS = ("disease", "symptom", "organ", "drug_name")
NOT_RULES = frozenset({"lexicons", *AIDS})


@dataclass(frozen=True, slots=True)
class Text:
    """The same sentence in Chinese and English."""

    zh: str
    en: str

    def of(self, lang: str) -> str:
        return self.zh if lang == "zh" else self.en


@dataclass(frozen=True, slots=True)
class Lexicon:
    name: str
    terms: tuple[str, ...]
    phonetic: bool = False
    phonetic_terms: tuple[str, ...] = ()

    def by_sound(self) -> Iterable[str]:
        if self.phonetic:
            yield from (term for term in self.terms if len(term) >= 3)
        yield from self.phonetic_terms


@dataclass(frozen=True, slots=True)
class TermsMatch:
    """Any of the terms stands in the text."""

    terms: tuple[str, ...]
    phonetic: bool = False


@dataclass(frozen=True, slots=True)
class RegexMatch:
    """`source` is the pattern as written, with its macros; `place` is its file and line."""

    source: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class NearMatch:
    """A term of every part, in one sentence, at most `within_chars` between neighbours."""

    parts: tuple[tuple[str, ...], ...]
    within_chars: int
    ordered: bool


@dataclass(frozen=True, slots=True)
class AbsenceMatch:
    """None of the phrases was said or shown in the whole session, though it was due.

    It is due where goods of `products` are on sale, an AI hosts, or the room names a merchant
    (whose name then discharges it too); and, with `said`, only where a phrase of every list of it
    was said.
    """

    phrases: tuple[str, ...]
    channels: tuple[str, ...]
    products: tuple[str, ...]
    ai_host: bool
    merchant: bool = False
    said: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class SemanticMatch:
    """The classifier gives the sentence this label, with at least this score; `keen` where more is
    to be found at the price of more to look at, as in a script that is checked before it is said.
    """

    label: str
    threshold: float
    keen: float
    place: str = ""


@dataclass(frozen=True, slots=True)
class AcrossPart:
    """A part of a claim: any of the terms, or the expression; on these channels, or on any."""

    terms: tuple[str, ...]
    regex: RegexMatch | None
    channels: frozenset[str]


@dataclass(frozen=True, slots=True)
class AcrossMatch:
    """Every part stands in an observation of its own, at most `window_s` seconds apart."""

    parts: tuple[AcrossPart, ...]
    window_s: float
    ordered: bool


RuleMatch = TermsMatch | RegexMatch | NearMatch | AbsenceMatch | SemanticMatch | AcrossMatch


@dataclass(frozen=True, slots=True)
class PassportCondition:
    """Holds when every key given holds."""

    category: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    function: bool = False


@dataclass(frozen=True, slots=True)
class Exemption:
    """A use that the law itself exempts, with its article: for every rule of `categories`.

    `covering` acquits where its match overlaps the words at fault, `sentence` where it is found in
    the same sentence, `product_name` where the words stand in the name of a product on sale.
    """

    id: str
    name: Text
    law: LawRef
    categories: frozenset[str]
    covering: tuple[RegexMatch, ...]
    sentence: tuple[RegexMatch, ...]
    product_name: bool

    @property
    def cited(self) -> str:
        return f"{self.name.zh}（《{self.law.title}》{self.law.article}）"


@dataclass(frozen=True, slots=True)
class Unless:
    negation: bool = True
    quotation: bool = True
    question: bool = False
    allow: tuple[str, ...] = ()
    covering: tuple[RegexMatch, ...] = ()
    sentence: tuple[RegexMatch, ...] = ()
    passport: tuple[PassportCondition, ...] = ()
    exemptions: tuple[str, ...] | None = None
    """Ids of the exemptions of law that may apply; None for all of the rule's category."""


@dataclass(frozen=True, slots=True)
class StagedObservation:
    """What is said or shown in a test of several observations, from second `at` to `until`."""

    text: str
    channel: str
    at: float
    until: float


@dataclass(frozen=True, slots=True)
class RuleTest:
    """What a rule must find (`quote`, `disposition`, `severity` if given) or pass over.

    `text` is one sentence; `observations` are several, in order of time, and then `text` is all
    of theirs.
    """

    text: str
    quote: str | None = None
    disposition: Disposition | None = None
    product: Passport | None = None
    channel: str | None = None
    ai_host: bool = False
    merchant: str = ""
    place: str = ""
    observations: tuple[StagedObservation, ...] = ()
    severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    id: str
    title: Text
    status: str
    version: int
    severity: Severity
    category: str
    disposition: Disposition
    statutory: bool
    """The law names the words: what their sentence means may weaken a finding, never drop it."""
    law: tuple[LawRef, ...]
    law_keys: tuple[str, ...]
    channels: frozenset[str]
    products: frozenset[str]
    not_products: frozenset[str]
    unknown_product: str
    against_passport: bool
    match: tuple[RuleMatch, ...]
    unless: Unless
    needs: tuple[str, ...]
    message: Text
    suggest: Text
    suggest_goods: frozenset[str]
    """The goods that `suggest` speaks of; empty: of any."""
    path: Path
    must_find: tuple[RuleTest, ...] = field(default=(), repr=False)
    must_pass: tuple[RuleTest, ...] = field(default=(), repr=False)

    @property
    def absences(self) -> tuple[AbsenceMatch, ...]:
        return tuple(m for m in self.match if isinstance(m, AbsenceMatch))

    @property
    def semantic_only(self) -> bool:
        """Whether nothing but the classifier can find what this rule is about."""
        return all(isinstance(m, SemanticMatch) for m in self.match)


@dataclass(frozen=True, slots=True)
class RulePack:
    """`version` is a digest of every file that decides, so a record names what made it."""

    jurisdiction: str
    rules: tuple[Rule, ...]
    lexicons: dict[str, Lexicon]
    law: LawBook
    product_cues: dict[str, tuple[str, ...]]
    morphs: tuple[dict[str, Any], ...]
    context: dict[str, Any]
    everyday_words: frozenset[str]
    misheard: dict[str, dict[str, float]]
    near_glyphs: dict[str, str]
    facts: dict[str, Any]
    audiences: dict[str, Any]
    exemptions: tuple[Exemption, ...]
    rewrites: dict[str, Text]
    """Product category → lawful words, where a rule's own speak of other goods."""
    small_talk: tuple[str, ...]
    """Words that say nothing of goods."""
    set_phrases: tuple[str, ...]
    """Whole sentences that greet or thank somebody (`…` is a name), or that the law prescribes."""
    weights: Weights | None
    rehearing: rehearing.Rehearing
    version: str
    folder: Path

    def disguised_terms(self) -> set[str]:
        """Every term that a host may write in letters."""
        terms = {term for lexicon in self.lexicons.values() for term in lexicon.terms}
        for rule in self.rules:
            for entry in rule.match:
                if isinstance(entry, TermsMatch):
                    terms.update(entry.terms)
                elif isinstance(entry, AcrossMatch):
                    terms.update(term for part in entry.parts for term in part.terms)
        return terms

    def hidden_terms(self) -> set[str]:
        """Illnesses, organs and their like, which a host may say with a hole: 高某压."""
        return {
            term
            for name in HIDDEN_LEXICONS
            if name in self.lexicons
            for term in self.lexicons[name].terms
        }

    def rewrite(self, rule: Rule, goods: str | None) -> Text:
        """Lawful words for what `rule` found, said of `goods` (a product category, or None)."""
        if goods is None or not rule.suggest_goods or goods in rule.suggest_goods:
            return rule.suggest
        return self.rewrites.get(goods) or self.rewrites.get("other") or rule.suggest

    def sounded_terms(self) -> set[str]:
        """Every term that may be found by sound."""
        terms = {term for lexicon in self.lexicons.values() for term in lexicon.by_sound()}
        for rule in self.rules:
            for entry in rule.match:
                if isinstance(entry, TermsMatch) and entry.phonetic:
                    terms.update(term for term in entry.terms if len(term) >= 3)
        return terms

    def warnings(self) -> Iterable[str]:
        """What is allowed and yet worth a look."""
        for rule in self.rules:
            if not any(self.law.article_of(key).text for key in rule.law_keys):
                yield f"{rule.path}: cites only articles whose text was not verified"
            if rule.status == "stable" and len(rule.must_find) + len(rule.must_pass) < 8:
                yield f"{rule.path}: a stable rule should carry at least eight tests"
        for lexicon in self.lexicons.values():
            for term in lexicon.terms:
                if len(term) == 1:
                    yield f"lexicon {lexicon.name}: '{term}': one character; for expressions only"

    def rule(self, rule_id: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.id == rule_id), None)


def load_rules(folder: Path | str | None = None, jurisdiction: str = "cn") -> RulePack:
    """Load a rule pack: the shipped one, or the one under `folder`.

    `folder` holds `<jurisdiction>/` and `law/`; or it is such a jurisdiction folder, or a
    folder of rules only, which then uses the shipped law and lexicons. Raises
    ModeratorError (LM-2xx) naming file and line of the first mistake.
    """
    shipped = rules_home()
    home = Path(folder) if folder is not None else shipped
    own = home / jurisdiction if (home / jurisdiction).is_dir() else home
    if not own.is_dir():
        raise ModeratorError(RULE_DIR, path=own)
    law_folder = home / "law" if (home / "law").is_dir() else shipped / "law"
    aids = _aids(own, shipped / jurisdiction)
    paths = [
        path
        for path in sorted(own.rglob("*.yaml"))
        if not NOT_RULES & set(path.relative_to(own).parts)
        and "law" not in path.relative_to(own).parts
    ]
    if not paths:
        raise ModeratorError(RULE_DIR, path=own)

    law = load_law(law_folder)
    lexicons = _load_lexicons([shipped / jurisdiction / "lexicons", own / "lexicons"])
    rules: dict[str, Rule] = {}
    digest = hashlib.sha256()
    for path in paths:
        rule = load_rule(path, law, lexicons)
        if rule.id in rules:
            raise ModeratorError(
                RULE_DUPLICATE,
                place=PlacedYaml(path).place(["id"]),
                id=rule.id,
                other=rules[rule.id].path,
            )
        rules[rule.id] = rule
        digest.update(path.read_bytes())
    for path in [*aids.values(), *sorted((own / "lexicons").glob("*.yaml"))]:
        digest.update(path.read_bytes())
    cues = PlacedYaml(aids["products.yaml"]).mapping() if "products.yaml" in aids else {}
    morphs = PlacedYaml(aids["morphs.yaml"]).data if "morphs.yaml" in aids else []
    context = PlacedYaml(aids["context.yaml"]).mapping() if "context.yaml" in aids else {}
    everyday = (
        PlacedYaml(aids["everyday_words.yaml"]).mapping() if "everyday_words.yaml" in aids else {}
    )
    misheard = PlacedYaml(aids["misheard.yaml"]).mapping() if "misheard.yaml" in aids else {}
    weights = PlacedYaml(aids["weights.yaml"]).mapping() if "weights.yaml" in aids else {}
    facts = PlacedYaml(aids["facts.yaml"]).mapping() if "facts.yaml" in aids else {}
    audiences = PlacedYaml(aids["audiences.yaml"]).mapping() if "audiences.yaml" in aids else {}
    exemptions: tuple[Exemption, ...] = ()
    if "exemptions.yaml" in aids:
        # A pack with laws of its own may lack the articles that the shipped exemptions cite.
        borrowed = own not in aids["exemptions.yaml"].parents and law_folder != shipped / "law"
        exemptions = _exemptions(
            PlacedYaml(aids["exemptions.yaml"]), load_law(shipped / "law") if borrowed else law
        )
    rewrites = PlacedYaml(aids["rewrites.yaml"]).mapping() if "rewrites.yaml" in aids else {}
    small_talk = PlacedYaml(aids["small_talk.yaml"]).mapping() if "small_talk.yaml" in aids else {}
    set_phrases = (*small_talk.pop("greetings", ()), *small_talk.pop("notices", ()))
    glyphs = PlacedYaml(aids["near_glyphs.yaml"]).mapping() if "near_glyphs.yaml" in aids else {}
    confusions = {
        str(said): {str(written): float(share) for written, share in heard.items()}
        for said, heard in misheard.get("syllables", {}).items()
    }
    return RulePack(
        jurisdiction=jurisdiction,
        rules=tuple(rules.values()),
        lexicons=lexicons,
        law=law,
        product_cues={name: tuple(map(str, cues[name])) for name in cues},
        morphs=tuple(morphs.get("morphs", []) if isinstance(morphs, dict) else morphs or []),
        context=context,
        everyday_words=frozenset(map(str, everyday.get("words", ()))),
        misheard=confusions,
        weights=weights_from(weights),
        rehearing=rehearing.shared(
            _text_of(aids, "talk_words.txt"), _text_of(aids, "talk_pairs.txt"), confusions
        ),
        near_glyphs={str(alike): str(term) for alike, term in glyphs.get("spellings", {}).items()},
        facts=facts,
        audiences=audiences,
        exemptions=exemptions,
        rewrites={str(goods): Text(**words) for goods, words in rewrites.get("goods", {}).items()},
        small_talk=tuple(str(word) for words in small_talk.values() for word in words),
        set_phrases=tuple(map(str, set_phrases)),
        version=f"{jurisdiction}-{digest.hexdigest()[:12]}",
        folder=own,
    )


def _text_of(aids: Mapping[str, Path], name: str) -> str:
    return aids[name].read_text(encoding="utf-8") if name in aids else ""


def load_rule(path: Path, law: LawBook, lexicons: dict[str, Lexicon]) -> Rule:
    """Load one rule file. Raises LM-201, LM-204, LM-207 or LM-211 with file and line."""
    placed = PlacedYaml(path)
    body = placed.mapping()
    placed.validate(_schema("rule"))
    references = body["law"]
    law_refs = tuple(
        law.cite(reference, placed.place(["law", index]))
        for index, reference in enumerate(references)
    )
    applies = body.get("applies", {})
    unless = body.get("unless", {})
    tests = body["tests"]
    return Rule(
        id=body["id"],
        title=Text(**body["title"]),
        status=body["status"],
        version=body["version"],
        severity=Severity(body["severity"]),
        category=body["category"],
        disposition=Disposition(body.get("disposition", "violation")),
        statutory=bool(body.get("statutory", False)),
        law=law_refs,
        law_keys=tuple(references),
        channels=frozenset(applies.get("channels", ())),
        products=frozenset(applies.get("products", ())),
        not_products=frozenset(applies.get("not_products", ())),
        unknown_product=applies.get("unknown_product", "suspect"),
        against_passport=bool(applies.get("against_passport", False)),
        match=tuple(
            _match(entry, placed, ["match", index], lexicons)
            for index, entry in enumerate(body["match"])
        ),
        unless=Unless(
            negation=unless.get("negation", True),
            quotation=unless.get("quotation", True),
            question=unless.get("question", False),
            allow=tuple(map(str, unless.get("allow", ()))),
            covering=_expressions(unless, "covering", placed),
            sentence=_expressions(unless, "sentence", placed),
            passport=tuple(_condition(entry) for entry in unless.get("passport", ())),
            exemptions=tuple(unless["exemptions"]) if "exemptions" in unless else None,
        ),
        needs=tuple(body.get("needs", ())),
        message=Text(**body["message"]),
        suggest=Text(body["suggest"]["zh"], body["suggest"]["en"]),
        suggest_goods=frozenset(body["suggest"].get("goods", ())),
        path=path,
        must_find=tuple(
            _test(entry, placed, ["tests", "violation", index])
            for index, entry in enumerate(tests["violation"])
        ),
        must_pass=tuple(
            _test(entry, placed, ["tests", "compliant", index])
            for index, entry in enumerate(tests["compliant"])
        ),
    )


@cache
def rules_home() -> Path:
    """The shipped `rules/`: beside the package in a checkout, inside it when installed."""
    beside = Path(__file__).resolve().parents[2] / "rules"
    if (beside / "cn").is_dir():
        return beside
    return Path(str(files("moderator") / "rulepacks"))


@cache
def _schema(name: str) -> Schema:
    path = rules_home() / "schema" / f"{name}.schema.json"
    return Schema(json.loads(path.read_text("utf-8")))


def _aids(own: Path, shipped: Path) -> dict[str, Path]:
    found = {}
    for name in AIDS:
        # Weights are of these rules and no others.
        for folder in (own,) if name == "weights.yaml" else (own, shipped):
            if (folder / name).is_file():
                found[name] = folder / name
                break
    return found


def _load_lexicons(folders: list[Path]) -> dict[str, Lexicon]:
    lexicons: dict[str, Lexicon] = {}
    for folder in dict.fromkeys(folders):
        for path in sorted(folder.glob("*.yaml")):
            placed = PlacedYaml(path)
            body = placed.mapping()
            placed.validate(_schema("lexicon"))
            lexicons[body["name"]] = Lexicon(
                name=body["name"],
                terms=tuple(dict.fromkeys(str(term).lower() for term in body["terms"])),
                phonetic=body.get("phonetic", False),
                phonetic_terms=tuple(map(str, body.get("phonetic_terms", ()))),
            )
    return lexicons


def _match(
    entry: dict[str, Any], placed: PlacedYaml, keys: list[str | int], lexicons: dict[str, Lexicon]
) -> RuleMatch:
    if "absence" in entry:
        when = entry.get("when", {})
        return AbsenceMatch(
            phrases=tuple(map(str, entry["absence"])),
            channels=tuple(entry.get("channels", ("speech", "screen", "script"))),
            products=tuple(when.get("products", ())),
            ai_host=bool(when.get("ai_host", False)),
            merchant=bool(when.get("merchant", False)),
            said=tuple(tuple(map(str, phrases)) for phrases in when.get("said", ())),
        )
    if "semantic" in entry:
        semantic = entry["semantic"]
        place = placed.place([*keys, "semantic"])
        threshold = float(semantic["threshold"])
        return SemanticMatch(
            semantic["label"], threshold, float(semantic.get("keen", threshold)), place
        )
    if "regex" in entry:
        return RegexMatch(entry["regex"], placed.place([*keys, "regex"]))
    if "across" in entry:
        across = entry["across"]
        return AcrossMatch(
            tuple(
                _across_part(part, placed, [*keys, "across", "parts", index], lexicons)
                for index, part in enumerate(across["parts"])
            ),
            float(across["window_s"]),
            across.get("ordered", False),
        )
    if "near" in entry:
        parts = tuple(
            _terms(part, placed, [*keys, "near", index], lexicons)
            for index, part in enumerate(entry["near"])
        )
        return NearMatch(parts, entry.get("within_chars", 8), entry.get("ordered", False))
    phonetic = entry.get("phonetic", False)
    if "lexicon" in entry and "phonetic" not in entry:
        phonetic = False  # the lexicon itself says which of its terms are found by sound
    return TermsMatch(_terms(entry, placed, keys, lexicons), phonetic)


def _across_part(
    entry: dict[str, Any], placed: PlacedYaml, keys: list[str | int], lexicons: dict[str, Lexicon]
) -> AcrossPart:
    expression = None
    if "regex" in entry:
        expression = RegexMatch(entry["regex"], placed.place([*keys, "regex"]))
    return AcrossPart(
        _terms(entry, placed, keys, lexicons), expression, frozenset(entry.get("channels", ()))
    )


def _exemptions(placed: PlacedYaml, law: LawBook) -> tuple[Exemption, ...]:
    """The exemptions of a pack. Raises LM-204 or LM-207 with file and line."""
    placed.validate(_schema("exemptions"))
    return tuple(
        Exemption(
            id=entry["id"],
            name=Text(**entry["name"]),
            law=law.cite(entry["law"], placed.place(["exemptions", index, "law"])),
            categories=frozenset(entry["categories"]),
            covering=tuple(
                RegexMatch(source, placed.place(["exemptions", index, "covering", at]))
                for at, source in enumerate(entry.get("covering", ()))
            ),
            sentence=tuple(
                RegexMatch(source, placed.place(["exemptions", index, "sentence", at]))
                for at, source in enumerate(entry.get("sentence", ()))
            ),
            product_name=bool(entry.get("product_name", False)),
        )
        for index, entry in enumerate(placed.mapping()["exemptions"])
    )


def _expressions(unless: dict[str, Any], key: str, placed: PlacedYaml) -> tuple[RegexMatch, ...]:
    return tuple(
        RegexMatch(source, placed.place(["unless", key, index]))
        for index, source in enumerate(unless.get(key, ()))
    )


def _terms(
    entry: dict[str, Any], placed: PlacedYaml, keys: list[str | int], lexicons: dict[str, Lexicon]
) -> tuple[str, ...]:
    terms = [str(term).lower() for term in entry.get("terms", ())]
    if "lexicon" in entry:
        name = entry["lexicon"]
        for one in [name] if isinstance(name, str) else name:
            if one not in lexicons:
                near = difflib.get_close_matches(one, lexicons, n=1)
                raise ModeratorError(
                    RULE_LEXICON,
                    place=placed.place([*keys, "lexicon"]),
                    name=one,
                    hint=f"; did you mean '{near[0]}'?" if near else "",
                )
            terms.extend(lexicons[one].terms)
    return tuple(dict.fromkeys(terms))


def _condition(entry: dict[str, Any]) -> PassportCondition:
    category = entry.get("category", ())
    return PassportCondition(
        category=(category,) if isinstance(category, str) else tuple(category),
        documents=tuple(
            entry[key]
            for key in ("registration", "approval", "certificate", "proof")
            if key in entry
        ),
        function=bool(entry.get("function", False)),
    )


def _test(entry: str | dict[str, Any], placed: PlacedYaml, keys: list[str | int]) -> RuleTest:
    place = placed.place(keys)
    if isinstance(entry, str):
        return RuleTest(entry, place=place)
    observations = _observations(entry.get("observations", ()))
    text = "，".join(one.text for one in observations) or str(entry.get("text", ""))
    if not text.strip():
        raise ModeratorError(RULE_FIELD, place=place, reason="a test needs a text")
    disposition = entry.get("disposition")
    severity = entry.get("severity")
    return RuleTest(
        text=text,
        quote=entry.get("quote"),
        disposition=Disposition(disposition) if disposition else None,
        product=passport_from(entry["product"], place) if "product" in entry else None,
        channel=entry.get("channel"),
        ai_host=bool(entry.get("ai_host", False)),
        merchant=str(entry.get("merchant", "")),
        place=place,
        observations=observations,
        severity=Severity(severity) if severity else None,
    )


def _observations(entries: Iterable[dict[str, Any]]) -> tuple[StagedObservation, ...]:
    """Each begins a second after the one before ends, unless it says otherwise."""
    found: list[StagedObservation] = []
    clock = 0.0
    for entry in entries:
        at = float(entry.get("at", clock))
        until = float(entry.get("until", at + len(entry["text"]) / TEST_CHARS_PER_S))
        found.append(StagedObservation(entry["text"], entry.get("channel", "speech"), at, until))
        clock = until + 1.0
    return tuple(found)
