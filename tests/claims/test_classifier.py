from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from moderator import check_script
from moderator.claims import classifier as module
from moderator.claims.classifier import (
    MAX_CHARS,
    MIN_CHARS,
    Classifier,
    Reading,
    SemanticMatcher,
    installed_classifier,
    semantic_matchers,
    sentences,
    spoken_form,
)
from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.claims.normalise import normalise
from moderator.claims.passports import passport_from
from moderator.claims.rules import RulePack, load_rules
from moderator.claims.selftest import failures
from moderator.claims.weighing import Weights
from moderator.config import Settings
from moderator.errors import ModeratorError
from moderator.records import Disposition, Room, ScriptLine, Utterance
from tests.claims.conftest import rule

EVASIVE = "喝半个月瓶瓶罐罐都不用吃了"


@dataclass
class Reader:
    """Stands in for the network: knows what each sentence says, and notes what it was asked."""

    says: dict[str, Reading]
    labels: tuple[str, ...] = ("absolute_term", "medical_efficacy", "other")
    version: str = "by-hand"
    asked: list[str] = field(default_factory=list)

    def read(self, sentence: str) -> Reading:
        self.asked.append(sentence)
        return self.says.get(spoken_form(sentence), Reading("other", 0.01))

    skim = read


def semantic_rule(label: str = "medical_efficacy", threshold: float = 0.9, **changes) -> dict:
    body = {
        "id": f"cn.semantic.{label}",
        "category": label,
        "status": "experimental",
        "disposition": "suspect",
        "match": [{"semantic": {"label": label, "threshold": threshold}}],
        "tests": {"violation": [EVASIVE], "compliant": ["今天这件衣服是纯棉的"]},
    }
    return rule(**{**body, **changes})


def engine(pack: RulePack, says: dict[str, Reading]) -> ClaimEngine:
    return ClaimEngine(pack, [SemanticMatcher(pack, Reader(says))])


def seen(engine: ClaimEngine, text: str):
    return [s.finding for s in ClaimSession(engine).observe(ScriptLine(text))]


def test_classifier_rule_suspects_the_whole_sentence(load):
    own = engine(load(semantic_rule()), {EVASIVE: Reading("medical_efficacy", 0.95)})

    (found,) = seen(own, f"大家晚上好呀！{EVASIVE}。")

    assert (found.quote, found.disposition) == (EVASIVE, Disposition.SUSPECT)
    assert (found.match.kind, found.match.score) == ("semantic", 0.95)


def test_classifier_rule_is_silent_below_its_threshold(load):
    pack = load(semantic_rule(threshold=0.9))

    assert not seen(engine(pack, {EVASIVE: Reading("medical_efficacy", 0.89)}), EVASIVE)
    assert not seen(engine(pack, {EVASIVE: Reading("absolute_term", 0.99)}), EVASIVE)


def test_classifier_gives_way_to_a_pattern_in_the_same_words(load):
    text = "喝了它这是国家级的好东西"
    pack = load(rule(severity="low", disposition="suspect"), semantic_rule())
    own = engine(pack, {text: Reading("medical_efficacy", 0.99)})

    assert [f.rule.id for f in seen(own, text)] == ["cn.absolute.state_level"]


def test_classifier_gives_way_to_an_exemption_of_the_same_category(load):
    text = "我们去的是国家级样板段"
    acquitting = rule(unless={"covering": ["国家级样板段"]})
    claim = semantic_rule("absolute_term")
    says = {text: Reading("absolute_term", 0.99)}

    assert not seen(engine(load(acquitting, claim), says), text)
    assert seen(engine(load(claim, {**acquitting, "category": "other"}), says), text)


def test_classifier_is_a_suspicion_even_where_the_passport_says_otherwise(load):
    text = "店里原来卖三百九十九今天九十九"
    meant = semantic_rule("absolute_term", needs=["price_record"], disposition="needs_proof")
    named = rule(id="cn.price.named", match=[{"terms": ["原来卖三百九十九今天九十九"]}])
    named |= {"needs": ["price_record"], "disposition": "needs_proof"}
    passport = passport_from({"id": "t", "price": {"list": 129, "lowest_30d": 99}}, "t")

    def verdict(body: dict) -> tuple[Disposition, bool]:
        tests = {"violation": [text], "compliant": ["今天九十九"]}
        own = engine(load({**body, "tests": tests}), {text: Reading("absolute_term", 0.99)})
        session = ClaimSession(own, Room(products=("t",)), [passport])
        (found,) = (s.finding for s in session.observe(ScriptLine(text)))
        return found.disposition, any("129" in reason.zh for reason in found.reasons)

    assert verdict(named) == (Disposition.VIOLATION, True)
    assert verdict(meant) == (Disposition.NEEDS_PROOF, True)


def test_classifier_still_suspects_the_sentence_beside_a_pattern(load):
    pack = load(rule(), semantic_rule())
    own = engine(pack, {EVASIVE: Reading("medical_efficacy", 0.99)})

    found = {f.rule.id for f in seen(own, f"这是国家级品质。{EVASIVE}。")}

    assert found == {"cn.absolute.state_level", "cn.semantic.medical_efficacy"}


def test_classifier_refuses_a_label_it_does_not_know(load):
    pack = load(semantic_rule("medical_eficacy", category="medical_efficacy"))

    with pytest.raises(ModeratorError, match=r"LM-213.*rule0\.yaml:\d+.*medical_eficacy"):
        SemanticMatcher(pack, Reader({}))


def test_classifier_entry_must_say_label_and_threshold(load):
    with pytest.raises(ModeratorError, match=r"LM-204.*threshold"):
        load(semantic_rule(match=[{"semantic": {"label": "other"}}]))


@pytest.mark.parametrize("text", ["长话" * 200, "先说这个，" * 60, "一句。" * 80, "", "，，，"])
def test_classifier_reads_pieces_of_bounded_length(text):
    spans = list(sentences(text))

    assert all(MIN_CHARS <= end - begin <= MAX_CHARS for begin, end in spans)
    assert spans == sorted(spans)
    if len(text) > MAX_CHARS and "。" not in text:
        assert sum(end - begin for begin, end in spans) >= 0.9 * len(text)


def test_classifier_cuts_a_long_sentence_at_a_pause():
    text = "这一段说的是衣服的面料和做工怎么样大家仔细听一听，" * 3

    pieces = [text[begin:end] for begin, end in sentences(text)]

    assert all(piece.endswith("听一听") for piece in pieces)


RECIPE = "萝卜切成小块先焯一遍水"


def said_in_turn(own: ClaimEngine, *texts: str, breath_s: float = 0.4) -> list[list[str]]:
    """The quotes found in each utterance, said one right after the other."""
    session, start, quotes = ClaimSession(own), 0.0, []
    for text in texts:
        end = start + len(text) / 5
        utterance = Utterance(text, start, end, chars=(), confidence=1.0, engine="by-hand")
        quotes.append([sighting.finding.quote for sighting in session.observe(utterance)])
        start = end + breath_s
    return quotes


def test_classifier_reads_an_utterance_for_itself_whatever_was_said_before(load):
    says = {EVASIVE: Reading("medical_efficacy", 0.95)}

    assert said_in_turn(engine(load(semantic_rule()), says), RECIPE, EVASIVE) == [[], [EVASIVE]]


def test_classifier_reads_a_claim_that_runs_over_two_utterances(load):
    first, second = EVASIVE[:6], EVASIVE[6:]
    says = {EVASIVE: Reading("medical_efficacy", 0.95), second: Reading("other", 0.3)}
    own = engine(load(semantic_rule()), says)

    assert said_in_turn(own, first, second) == [[], [f"{first}，{second}"]]
    assert said_in_turn(own, first, second, breath_s=5.0) == [[], []]


def test_classifier_does_not_blame_what_comes_after_a_claim_for_it(load):
    claim, hint = Reading("medical_efficacy", 0.95), Reading("other", 0.3)

    def quotes(says: dict[str, Reading]) -> list[list[str]]:
        return said_in_turn(engine(load(semantic_rule()), says), EVASIVE, RECIPE)

    assert quotes({EVASIVE: claim, EVASIVE + RECIPE: claim, RECIPE: hint}) == [[EVASIVE], []]
    assert quotes({EVASIVE + RECIPE: claim}) == [[], []]
    assert quotes({EVASIVE + RECIPE: claim, RECIPE: hint}) == [[], [f"{EVASIVE}，{RECIPE}"]]


def test_classifier_missing_leaves_the_patterns_alone(load, monkeypatch):
    monkeypatch.setattr(module, "installed_classifier", lambda *_: None)
    pack = load(rule(), semantic_rule())

    assert semantic_matchers(pack) == ()
    assert not list(failures(pack))
    assert [f.rule.id for f in seen(ClaimEngine(pack), "国家级")] == ["cn.absolute.state_level"]


def test_classifier_tests_of_a_rule_are_run_where_it_is_installed(load, monkeypatch):
    monkeypatch.setattr(module, "installed_classifier", lambda *_: Reader({}))

    (failure,) = failures(load(rule(), semantic_rule()))

    assert (failure.rule, failure.text) == ("cn.semantic.medical_efficacy", EVASIVE)


def test_classifier_is_not_loaded_for_a_pack_without_semantic_rules(load, monkeypatch):
    monkeypatch.setattr(module, "installed_classifier", lambda *_: pytest.fail("loaded"))

    assert semantic_matchers(load(rule())) == ()


def test_classifier_can_be_switched_off(load, monkeypatch):
    reader = Reader({EVASIVE: Reading("medical_efficacy", 0.99)})
    monkeypatch.setattr(module, "installed_classifier", lambda *_: reader)
    pack = load(semantic_rule())

    on = check_script(EVASIVE, rules=pack)
    off = check_script(EVASIVE, rules=pack, settings=Settings(classifier=False))

    assert [v.rule.id for v in on.violations] == ["cn.semantic.medical_efficacy"]
    assert on.engines["classifier"] == "by-hand"
    assert not off.violations
    assert "classifier" not in off.engines


def test_classifier_is_keener_in_scripts_than_in_speech(load, monkeypatch):
    body = semantic_rule(threshold=0.9)
    body["match"][0]["semantic"]["keen"] = 0.5
    pack = load(body)
    reader = Reader({EVASIVE: Reading("medical_efficacy", 0.6)})
    monkeypatch.setattr(module, "installed_classifier", lambda *_: reader)

    def found(channel: str, sensitivity: str) -> bool:
        (matcher,) = semantic_matchers(pack, module.keen_channels(sensitivity))
        return bool(matcher.find(normalise(EVASIVE), by_sound=False, channel=channel))

    assert [found("script", s) for s in ("auto", "usual", "keen")] == [True, False, True]
    assert [found("speech", s) for s in ("auto", "usual", "keen")] == [False, False, True]
    assert check_script(EVASIVE, rules=pack).violations
    assert not check_script(EVASIVE, rules=pack, settings=Settings(sensitivity="usual")).violations


@pytest.fixture(scope="module")
def shipped() -> Classifier:
    found = installed_classifier()
    if found is None:
        pytest.skip("onnxruntime or the model is not installed")
    return found


@pytest.mark.slow
def test_classifier_shipped_knows_evasion_from_plain_talk(shipped):
    plain = shipped.read("贴上三天老寒腿就好了")

    assert plain.label == "medical_efficacy"
    assert plain.score > 0.5
    # Bottles and jars may be medicine or cosmetics, and what is drunk may be a health food that
    # is said to spare medicine: the words leave it open.
    assert shipped.read(EVASIVE).label in {
        "medical_efficacy",
        "health_food_disease",
        "unproven_efficacy",
    }
    assert shipped.read(EVASIVE).score > 0.5
    assert shipped.read("这件衣服是纯棉的机洗也不会缩水").score < 0.2


@pytest.mark.slow
def test_classifier_shipped_reads_the_same_with_and_without_marks(shipped):
    assert shipped.read("喝半个月，瓶瓶罐罐，都不用吃了！") == shipped.read(EVASIVE)


@pytest.mark.slow
def test_classifier_shipped_asks_the_network_only_where_the_runs_leave_it_open(
    shipped, monkeypatch
):
    asked = []
    network = shipped.logits
    monkeypatch.setattr(shipped, "logits", lambda text: asked.append(text) or network(text))
    told, plain = "贴上三天老寒腿自己就好了你说神不神", "这件衣服是纯棉的袖口是螺纹的袖子不长"

    assert shipped.skim(told) == shipped.read(told)
    assert asked == [told]
    assert shipped.skim(plain).label == ""
    assert shipped.skim(plain).score < 0.2
    assert asked == [told]
    assert shipped.read(plain).label in shipped.labels
    assert asked == [told, plain]


@pytest.mark.slow
def test_classifier_shipped_knows_the_label_of_every_rule(shipped):
    pack = load_rules()
    entries = {
        entry.label: rule
        for rule in pack.rules
        for entry in rule.match
        if isinstance(entry, module.SemanticMatch)
    }

    assert entries
    assert set(entries) <= set(shipped.labels)
    assert all(rule.category == label for label, rule in entries.items())
    assert all(rule.disposition == Disposition.SUSPECT for rule in entries.values())


@pytest.mark.slow
def test_classifier_shipped_bears_any_text(shipped):
    for odd in ("a" * 60, "😀" * 10, "１２３４５６７", "٣٤٥٦٧٨", "\u200b" * 6, "〇" * 60):
        assert 0.0 <= shipped.read(odd).score <= 1.0


@pytest.mark.parametrize(
    ("said", "chance", "expected"),
    [
        ("国家级", 0.6, Disposition.VIOLATION),
        ("国家级", 0.05, Disposition.SUSPECT),  # too short to be searched for claims
        ("国家级的", 0.05, Disposition.SUSPECT),
        ("真是国家级", 0.05, Disposition.SUSPECT),
    ],
)
def test_semantic_meaning_of_words_alone_drops_nothing_and_accuses_nobody_in_doubt(
    load, said: str, chance: float, expected: Disposition
) -> None:
    pack = replace(
        load(rule(match=[{"terms": ["国家级"]}]), semantic_rule()),
        weights=Weights(0.0, 1.0, 0.0, 0.4, 0.3, firm=0.9, sure=4.0, unmet=0.0, rules={}),
    )
    (found,) = seen(engine(pack, {said: Reading("other", chance)}), said)
    assert found.disposition == expected


@pytest.mark.parametrize(
    ("statutory", "said", "chance", "expected"),
    [
        (False, "这是国家级的品质", 0.05, []),
        (True, "这是国家级的品质", 0.05, [Disposition.SUSPECT]),
        (True, "这是国家集的品质", 0.05, []),
        (True, "这是国家集的品质", 0.6, [Disposition.SUSPECT]),
    ],
)
def test_semantic_meaning_weakens_what_the_law_names_and_drops_the_rest(
    load, statutory: bool, said: str, chance: float, expected: list[Disposition]
) -> None:
    named = rule(match=[{"terms": ["国家级"], "phonetic": True}], statutory=statutory)
    pack = replace(
        load(named, semantic_rule()),
        weights=Weights(0.0, 1.0, 0.0, 0.4, 0.3, firm=0.9, sure=4.0, unmet=0.0, rules={}),
    )
    readings = dict.fromkeys((said, "这是国家级的品质"), Reading("other", chance))
    found = ClaimSession(engine(pack, readings), Room()).observe(
        Utterance(said, 0.0, 2.0, chars=(), confidence=0.9, engine="test")
    )
    assert [one.finding.disposition for one in found] == expected
