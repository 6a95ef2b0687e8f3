"""From match to finding: exemptions, passports, disposition, confidence, explanation.

One place decides. A finding says what was matched, why no exemption applies, and what
would make the words lawful, so that a person can follow the decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import regex
import structlog

from moderator.claims.context import Around, ContextReader, around
from moderator.claims.exemptions import ExemptionsOfLaw
from moderator.claims.facts import FactBook
from moderator.claims.matcher import SHORT_SOUND_SCORE, Match
from moderator.claims.normalise import Normalised
from moderator.claims.passports import DOCUMENT_NAMES, Passport
from moderator.claims.patterns import Pattern, PatternTimeout, compile_pattern
from moderator.claims.products import ProductView
from moderator.claims.rules import PassportCondition, Rule, RulePack, Text
from moderator.claims.weighing import Said
from moderator.records import Disposition, Severity

log = structlog.get_logger()

STATUS_CONFIDENCE = {"stable": 0.95, "test": 0.9, "experimental": 0.75}
FIRM_SOUND_SCORE = 0.85
"""A match by sound below this is only a suspicion."""
FIRM_SOUND_SYLLABLES = 5
UNHEARD_LLR = -5.0
UNHEARD_DOUBT = 0.9
"""Nats. A likeness that fits the sound worse than this ratio, in place of characters that the
recogniser doubted less than this, was not said: the pair that drops most of what was not said, and
nothing that was, on the calibration half of benchmarks/results/second_listen-*.json. No ratio
tells for sure that a term *was* said (`fits_better` there), so none makes a match firmer."""
LOOSE_LLR = -3.0
"""Nats. A loose likeness stays where the term fits the sound hardly worse than what was written."""
LOOSE_SCORE = 0.7
LONG_LIKENESS = 4
"""Two short likenesses side by side in one claim are as good as one long one."""
RELISTENED_SYLLABLES = 3
"""Of two syllables the ratio tells nothing: 祛斑 fits 19 nats worse than 区班 when it is said."""
RECORDS_OF_CATEGORY = {
    "price_fraud": ("price_record",),
    "false_origin_or_ingredient": ("origin_proof", "test_report"),
}
"""What a passport tells of such claims, whether or not the rule asks for the document."""
REGULATED_TALK = frozenset({"food", "health_food", "cosmetic", "drug", "medical_device"})
"""Where a two-syllable likeness in sound is worth a look even for a rule about every product."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A match that survived. `begin`/`end` are offsets in the *original* text."""

    rule: Rule
    begin: int
    end: int
    quote: str
    heard: str | None
    disposition: Disposition
    severity: Severity
    confidence: float
    match: Match
    product: str | None
    exemptions_considered: tuple[str, ...]
    reasons: tuple[Text, ...]
    suggestion: Text


@dataclass(frozen=True, slots=True)
class Acquittal:
    """A match that an exemption took back, for `rules test --explain`."""

    match: Match
    reason: str


Ruling = Finding | Acquittal

Meaning = Callable[[int, int], Said | None]
"""What the sentence (or sentences) around `text[begin:end]` says; None where none can be read."""


class Judge:
    """Rules on matches with the words of one rule pack. Stateless between calls."""

    def __init__(self, pack: RulePack) -> None:
        self._pack = pack
        self._context = ContextReader(pack.context)
        self._weights = pack.weights
        self._facts = FactBook(pack.facts)
        lexicons = {name: lexicon.terms for name, lexicon in pack.lexicons.items()}
        self._exemptions = ExemptionsOfLaw(pack.exemptions, lexicons)
        self._covering: dict[str, list[Pattern]] = {}
        self._sentence: dict[str, list[Pattern]] = {}
        for rule in pack.rules:
            for table, sources in (
                (self._covering, rule.unless.covering),
                (self._sentence, rule.unless.sentence),
            ):
                table[rule.id] = [
                    compile_pattern(one.source, lexicons, one.place) for one in sources
                ]

    @property
    def patterns(self) -> Iterator[Pattern]:
        """Every expression that can acquit; `rules lint` tries their speed."""
        for table in (self._covering, self._sentence):
            for patterns in table.values():
                yield from patterns
        yield from self._exemptions.patterns

    def correction_in(self, text: str) -> str:
        """The words near the beginning of `text` that take back what was said just before."""
        return self._context.correction_in(text)

    def rule_on(
        self,
        match: Match,
        text: Normalised,
        product: ProductView,
        channel: str,
        meaning: Meaning | None = None,
        keen: bool = False,
    ) -> Ruling:
        """Decide one match. The recogniser's confidence is the session's to weigh in.

        `meaning` reads what stands at a place of `text`; its say is weighed with the rule's, except
        where the product's passport plainly contradicts the words. What the classifier alone has
        found stays a suspicion even then: that the sentence is about the fact at all is its guess.
        Where it is `keen`, less is dropped for its meaning.
        """
        rule = match.rule
        scope = _in_scope(rule, product, channel)
        if scope.outside:
            return Acquittal(match, scope.outside)
        if match.kind == "phonetic":
            doubt = _chance_likeness(match, product, channel)
            if not doubt and match.loose and not _borne_out(match):
                doubt = f"读音只有部分相近，不足以认定是“{match.matched}”"
            if not doubt and _unheard(match) and not _firm_sound(match, channel):
                doubt = f"复听原声，不是“{match.matched}”（{match.acoustic_llr:+.1f} 奈特）"
            if doubt:
                return Acquittal(match, doubt)
        place = around(text.text, match.begin, match.end)
        considered: list[str] = []
        reason = self._exempt(match, text, place, product, considered)
        if reason:
            return Acquittal(match, reason)
        quote, heard = _words(match, text, channel)
        reason, clash = _passport_says(
            rule, product, match.matched, place.sentence, considered, self._facts
        )
        if reason:
            return Acquittal(match, reason)
        if rule.against_passport and clash is None:
            return Acquittal(match, "商品档案没有与此相反的记录")

        disposition = rule.disposition
        reasons: list[Text] = []
        if clash:
            if match.kind != "semantic":
                disposition = Disposition.VIOLATION
            reasons.append(
                Text(f"与商品档案矛盾：{clash}", f"the product's passport says otherwise: {clash}")
            )
        elif rule.needs:
            disposition = min(disposition, Disposition.NEEDS_PROOF, key=lambda d: d.rank)
        if scope.unsure:
            disposition = Disposition.SUSPECT
            reasons.append(scope.unsure)
        if match.kind == "phonetic":
            reasons.append(Text(f"按读音匹配到“{match.matched}”", f"sounds like “{match.matched}”"))
            if _unheard(match):
                llr = f"{match.acoustic_llr:+.1f}"
                reasons.append(
                    Text(
                        f"复听原声，更像原字（{llr} 奈特）",
                        f"heard again, the sound fits what was written better ({llr} nats)",
                    )
                )
                disposition = Disposition.SUSPECT
            elif not _firm_sound(match, channel):
                disposition = Disposition.SUSPECT
        if match.by_room:
            reasons.append(
                Text(
                    "本场此前可疑说法较多，按较低的门槛提示",
                    "much of this room's talk was suspicious: a lower threshold holds",
                )
            )
        severity = rule.severity
        if self._context.corrected(place):
            reasons.append(Text("主播随后更正", "the host corrected it at once"))
            disposition = Disposition.SUSPECT
            severity = Severity.LOW
        certainty = STATUS_CONFIDENCE[rule.status]
        said = meaning(match.begin, match.end) if meaning is not None and not clash else None
        if said is not None and said.bare:
            if said.log_odds < 0.0 and disposition is Disposition.VIOLATION:
                disposition = Disposition.SUSPECT
                reasons.append(
                    Text(
                        "只有这几个字，看不出说的是商品，需要人工判断",
                        "these few words alone do not tell that goods are meant",
                    )
                )
        elif said is not None and self._weights is not None:
            certainty = self._weights.chance(rule.id, said.log_odds)
            named = rule.statutory and match.kind == "literal" and not match.guessed
            if not named and self._weights.drops(rule.id, certainty, keen=keen):
                return Acquittal(match, f"结合整句意思，是违规说法的可能只有 {certainty:.0%}")
            if certainty < self._weights.firm and disposition is Disposition.VIOLATION:
                disposition = Disposition.SUSPECT
                reasons.append(
                    Text(
                        f"结合整句意思，是违规说法的可能为 {certainty:.0%}，需要人工判断",
                        f"by the whole sentence, unlawful with a chance of {certainty:.0%}",
                    )
                )
        confidence = certainty * match.score
        begin, end = text.span(match.begin, match.end)
        return Finding(
            rule=rule,
            begin=begin,
            end=end,
            quote=quote,
            heard=heard,
            disposition=disposition,
            severity=severity,
            confidence=round(min(1.0, confidence), 3),
            match=match,
            product=_known_as(product.passport),
            exemptions_considered=tuple(considered),
            reasons=tuple(reasons),
            suggestion=self._pack.rewrite(rule, product.category or product.inferred),
        )

    def _exempt(
        self,
        match: Match,
        text: Normalised,
        place: Around,
        product: ProductView,
        considered: list[str],
    ) -> str | None:
        unless = match.rule.unless
        if unless.negation:
            if self._context.negated(place):
                return "否定句：说的是没有或不能"
            considered.append("否定")
        if unless.quotation:
            if self._context.warned(place):
                return "提醒观众或转述规定，不是对商品的宣称"
            if self._context.spoken_of(place, _in_quotes(match, text)):
                return "讲词语、课文、新闻或案例，不是对商品的宣称"
            considered.append("提醒、转述规定")
        if unless.question:
            if self._context.asked(place):
                return "问句"
            considered.append("问句")
        try:
            names = [name for passport in product.possible for name in passport.known_as()]
            exempt = self._exemptions.applies(match.rule, place, names)
            if exempt:
                return exempt
            for pattern in self._covering[match.rule.id]:
                for begin, end in pattern.find(place.sentence):
                    if place.begin + begin < match.end and match.begin < place.begin + end:
                        return f"属于例外用法“{place.sentence[begin:end]}”"
            for pattern in self._sentence[match.rule.id]:
                for begin, end in pattern.find(place.sentence):
                    return f"同句有“{place.sentence[begin:end]}”"
        except PatternTimeout:
            log.warning("regex_timeout", rule=match.rule.id, chars=len(place.sentence))
        if unless.covering or unless.sentence or unless.allow:
            considered.append("例外用法")
        considered += self._exemptions.considered(match.rule)
        return None


@dataclass(frozen=True, slots=True)
class _Scope:
    outside: str = ""
    unsure: Text | None = None


def _in_scope(rule: Rule, product: ProductView, channel: str) -> _Scope:
    if rule.channels and channel not in rule.channels:
        return _Scope(outside="不适用于此渠道")
    category = product.category
    if category in rule.not_products:
        return _Scope(outside=f"不适用于商品类别 {category}")
    if not rule.products:
        return _Scope()
    if category is not None:
        return _Scope() if category in rule.products else _Scope(outside="不适用于该商品类别")
    if product.known:
        if rule.products & product.known:
            return _Scope(
                unsure=Text(
                    "在售多件商品，未能确定说的是哪一件",
                    "several products are on sale, and which one is meant is not clear",
                )
            )
        return _Scope(outside="在售商品均不属此类别")
    if product.inferred in rule.products:
        return _Scope()
    if rule.unknown_product == "skip":
        return _Scope(outside="商品类别未知")
    if rule.unknown_product == "match":
        return _Scope()
    return _Scope(unsure=Text("商品类别未知", "the product's category is not known"))


def _passport_says(
    rule: Rule,
    product: ProductView,
    claim: str,
    sentence: str,
    considered: list[str],
    facts: FactBook,
) -> tuple[str | None, str | None]:
    """Why the passport allows the claim, or how it contradicts it; (None, None) if neither.

    While it is not known which product is meant, any passport of the room may allow; and
    so may the one that has the words in its name (防晒 of a sunscreen). Only the passport of the
    product itself can contradict.
    """
    kinds = _kinds_told_by(rule)
    if not kinds and not rule.unless.passport:
        return None, None
    passports = [product.passport] if product.passport is not None else list(product.possible)
    passports += [p for p in product.possible if any(claim in name for name in p.known_as())]
    late = []
    for passport in passports:
        held = facts.hold(kinds, claim, sentence, passport)
        if held is not None and held.agrees:
            return f"与商品档案一致：{held.why}", None
        if held is not None and passport is product.passport:
            return None, held.why
        for kind in rule.needs:
            if facts.proves(kind, passport, claim, sentence):
                return f"商品档案有{DOCUMENT_NAMES[kind][0]}", None
        if any(
            _holds(condition, passport, claim, sentence, facts)
            for condition in rule.unless.passport
        ):
            return "商品档案允许", None
        late.append(facts.expired(kinds, passport))
    named = "、".join(p.name or p.id or p.category for p in passports)
    expired = "、".join(dict.fromkeys(filter(None, late)))
    considered.append(
        f"商品档案：{named}，{expired or '不足以允许'}" if named else "商品档案：没有"
    )
    return None, None


def _kinds_told_by(rule: Rule) -> tuple[str, ...]:
    """The records that may contradict or bear out what a rule is about."""
    kinds = list(rule.needs)
    for condition in rule.unless.passport:
        kinds += condition.documents
    kinds += RECORDS_OF_CATEGORY.get(rule.category, ())
    return tuple(dict.fromkeys(kinds))


def _holds(
    condition: PassportCondition, passport: Passport, claim: str, sentence: str, facts: FactBook
) -> bool:
    if condition.category and passport.category not in condition.category:
        return False
    if not all(facts.proves(kind, passport, claim, sentence) for kind in condition.documents):
        return False
    return not condition.function or _among_functions(claim, passport)


def _among_functions(claim: str, passport: Passport) -> bool:
    """The claim and an approved function share their core wording (at least two characters)."""
    for function in passport.functions():
        core = regex.sub(r"^(?:有助于|有利于|辅助|帮助|对)", "", function)
        wanted = regex.sub(r"^(?:有助于|有利于|辅助|帮助|能|可以)", "", claim)
        if core and wanted and (core in wanted or wanted in core):
            return True
    return False


def _chance_likeness(match: Match, product: ProductView, channel: str) -> str | None:
    """Why a likeness in sound says nothing here, or None when it deserves a look."""
    if channel != "speech" and (match.score < 1.0 or match.end - match.begin < 3):
        return "书面文字读音相近，不足为据"
    if match.score > SHORT_SOUND_SCORE or match.sounded >= LONG_LIKENESS:
        return None
    about = {product.category, product.inferred} - {None}
    if about & (match.rule.products or REGULATED_TALK):
        return None
    return "两字读音相同，且话题无关"


def _unheard(match: Match) -> bool:
    """Whether the second listen finds that other words were said.

    It moves a match one step: firm becomes suspect, and what was only suspect is dropped.
    """
    if match.acoustic_llr is None or match.doubt is None:
        return False
    return (
        match.sounded >= RELISTENED_SYLLABLES
        and match.acoustic_llr < UNHEARD_LLR
        and match.doubt < UNHEARD_DOUBT
    )


def _borne_out(match: Match) -> bool:
    """Whether a loose likeness deserves a look: the sound fits it, or it is close by itself."""
    if match.acoustic_llr is not None:
        return match.acoustic_llr >= LOOSE_LLR
    return match.score >= LOOSE_SCORE


def _firm_sound(match: Match, channel: str) -> bool:
    """Likeness in sound is beyond chance when it is long, or stands beside words heard clearly."""
    if match.loose:
        return False
    if channel != "speech" or match.score < FIRM_SOUND_SCORE:
        return False
    heard_clearly = match.end - match.begin - match.sounded
    return match.sounded >= FIRM_SOUND_SYLLABLES or (match.sounded >= 3 and heard_clearly >= 2)


def _in_quotes(match: Match, text: Normalised) -> bool:
    """Whether the words stand between quotation marks where they were written."""
    begin, end = text.span(match.begin, match.end)
    opening = max((text.original.rfind(mark, 0, begin + 1) for mark in "“‘「『"), default=-1)
    if opening < 0:
        return False
    closing = [at for mark in "”’」』" if (at := text.original.find(mark, opening)) >= 0]
    return bool(closing) and min(closing) >= end - 1


def _known_as(passport: Passport | None) -> str | None:
    return (passport.id or passport.name or None) if passport is not None else None


def _words(match: Match, text: Normalised, channel: str) -> tuple[str, str | None]:
    """The words at fault, and for speech what the recogniser wrote where that differs."""
    begin, end = text.span(match.begin, match.end)
    original = text.original[begin:end]
    if channel == "speech" and (match.kind == "phonetic" or match.guessed):
        return match.matched, original
    return original, None
