"""How good are the verdicts? Precision and recall by category and channel, false alarms an hour.

    python -m benchmarks.accuracy                     # samples, clean speech, ../shared when there
    python -m benchmarks.accuracy --cases my.jsonl    # {"text", "verdict", "category", "product"?}
    python -m benchmarks.accuracy --skip-rooms        # text only: seconds instead of minutes

Seven questions, seven parts:

- *rooms*: each sample room through the whole pipeline against its truth file. A planted violation
  is found as `samples/truth.py` says: channel, time (2 s of slack), and the category or the words.
  A record of disposition `violation` that meets no planted line is a false accusation.
- *cases*: labelled sentences. `any-flag` counts every disposition, `strict` only `violation`.
- *corpus*: the held-out families of `models/claim_classifier/data`, written without sight
  of the rules; neither rules nor classifier were tuned on them. Much of it is evasive on purpose.
- *exam* (`exam.jsonl`): sentences in the manner of transcripts, written by another hand; never
  trained or tuned on, and looked at in its totals only.
- *short lines* (`short_lines.jsonl`): ordinary ones of 2 to 14 characters, and unlawful ones as
  short, by a third hand; never trained on.
- *hands* (`hands.jsonl`): four further hands, unseen by rules and classifier: scripts for the
  teleprompter, strong but lawful selling, garbled speech, talk between claims; nothing was changed
  for what they showed.
- *clean speech*: harmless talk, and of it the files that the classifier was not trained on; flags
  an hour at 240 characters a minute, a fluent host's pace.

Each part of the engine is added in turn: patterns alone; the classifier weighing them (it can only
take back and weaken); the classifier also finding claims by itself, as in speech; and at its keen
thresholds, as in scripts.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.report import write_result
from models.claim_classifier.dataset import CLEAN_SPEECH, part_of, written_rows
from models.claim_classifier.dataset import ROOMS as ROOM_FILES
from moderator import check, load_rules
from moderator.claims.classifier import semantic_matchers
from moderator.claims.diff import verdicts
from moderator.claims.engine import ClaimEngine, ReadsMeaning
from moderator.claims.judge import Meaning
from moderator.claims.matcher import Match
from moderator.claims.normalise import Normalised
from moderator.claims.passports import Passport, load_passports, passport_from
from moderator.claims.rules import RulePack
from moderator.records import PRODUCT_CATEGORIES, Room, Violation
from samples.truth import compare

REPOSITORY = Path(__file__).parents[1]
ROOMS = REPOSITORY / "samples" / "rooms"
EXAM = Path(__file__).with_name("exam.jsonl")
SHORT = Path(__file__).with_name("short_lines.jsonl")
HANDS = Path(__file__).with_name("hands.jsonl")
SHARED_CASES = REPOSITORY.parent / "shared" / "dev-cases.jsonl"
CHARS_PER_HOUR = 240 * 60


@dataclass
class Score:
    """Counts of one group. `false_firm` are false accusations of disposition `violation`."""

    found: int = 0
    missed: int = 0
    false_any: int = 0
    false_firm: int = 0
    lawful: int = 0
    misses: list[str] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        planted, flagged = self.found + self.missed, self.found + self.false_any
        recall = self.found / planted if planted else None
        precision = self.found / flagged if flagged and self.lawful + self.false_any else None
        f1 = 2 * recall * precision / (recall + precision) if recall and precision else None
        return {
            "recall": _round(recall),
            "precision": _round(precision),
            "f1": _round(f1),
            "violations": planted,
            "lawful": self.lawful,
            "false_any": self.false_any,
            "false_firm": self.false_firm,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, help="labelled jsonl")
    parser.add_argument("--skip-rooms", action="store_true")
    parser.add_argument("--show", action="store_true", help="print every miss and false flag")
    chosen = parser.parse_args()
    console = Console()
    pack = load_rules()
    cases = chosen.cases or (SHARED_CASES if SHARED_CASES.is_file() else None)
    payload: dict[str, Any] = {"pack": pack.version, "rules": len(pack.rules)}
    for name, engine in engines(pack).items():
        console.rule(name)
        payload[name] = score_texts(engine, cases, console, chosen.show)
    if not chosen.skip_rooms:
        payload["rooms"] = score_rooms(console, chosen.show)
    console.print(write_result("accuracy", payload))


def engines(pack: RulePack) -> dict[str, ClaimEngine]:
    """The ablation: patterns alone, and with the classifier where it is installed."""
    found = {"patterns": ClaimEngine(pack)}
    matchers = semantic_matchers(pack, keen=())
    if matchers:
        written = replace(pack, rules=tuple(r for r in pack.rules if not r.semantic_only))
        weighed = [WeighsOnly(matcher) for matcher in matchers if isinstance(matcher, ReadsMeaning)]
        found["patterns, weighed"] = ClaimEngine(written, weighed)
        found["patterns + classifier"] = ClaimEngine(pack, matchers)
        found["patterns + keen classifier"] = ClaimEngine(pack, semantic_matchers(pack, keen=None))
    return found


@dataclass
class WeighsOnly:
    """The classifier as a reader of what patterns found, finding nothing itself."""

    reader: ReadsMeaning
    name: str = "weighing"
    version: str = ""

    def find(self, text: Normalised, **_: Any) -> list[Match]:
        return []

    def meaning(self, text: Normalised) -> Meaning:
        return self.reader.meaning(text)

    def spoken(self, text: Normalised) -> list[float]:
        return self.reader.spoken(text)

    def keen_on(self, channel: str) -> bool:
        return self.reader.keen_on(channel)


def score_texts(
    engine: ClaimEngine, cases: Path | None, console: Console, show: bool
) -> dict[str, Any]:
    """Everything that is judged by the words alone."""
    scores: dict[str, Any] = {}
    if cases is not None:
        scores["cases"] = {"file": cases.name, **score_cases(engine, cases, console, show)}
    held: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in written_rows():
        if row["part"] == "held":
            held[row["source"]].append(row)
    scores["corpus"] = {
        name: score_corpus(engine, rows, name, console) for name, rows in held.items()
    }
    every = [row for rows in held.values() for row in rows]
    scores["corpus"]["together"] = score_corpus(engine, every, "together", console)
    for path in (EXAM, SHORT, HANDS):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        scores[path.stem] = score_corpus(engine, lines, path.name, console)
    scores["clean_speech"] = score_clean(engine, console, show)
    return scores


def score_cases(engine: ClaimEngine, path: Path, console: Console, show: bool) -> dict[str, Any]:
    """Sentences judged without a passport unless the case carries one."""
    groups: dict[str, Score] = defaultdict(Score)
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        case = json.loads(line)
        flags = flag(engine, case["text"], case.get("product"), case.get("product_category"))
        unlawful = case["verdict"] == "violation"
        firm = "violation" in flags.values()
        names = ["all", case.get("category", "other")]
        names.append("needs context" if case.get("needs_context") else "from the words alone")
        for name in names:
            score = groups[name]
            if unlawful:
                score.found += bool(flags)
                score.missed += not flags
            else:
                score.lawful += 1
                score.false_any += bool(flags)
                score.false_firm += firm
        if show and (unlawful != bool(flags)):
            console.print("MISS" if unlawful else "FLAG", case["text"], flags, markup=False)
    _print(console, f"cases: {path.name}", groups)
    return {name: score.row() for name, score in groups.items()}


def score_corpus(
    engine: ClaimEngine, rows: Iterable[dict[str, Any]], name: str, console: Console
) -> dict[str, Any]:
    """By label and by who wrote it; the product's category is given as a passport would."""
    groups: dict[str, Score] = defaultdict(Score)
    for case in rows:
        flags = flag(engine, case["text"], category=case.get("product"))
        own = (case["hand"],) if "hand" in case else ()
        for label in ("all", *case["labels"], *own):
            score = groups[label]
            if case["labels"]:
                score.found += bool(flags)
                score.missed += not flags
            else:
                score.lawful += 1
                score.false_any += bool(flags)
                score.false_firm += "violation" in flags.values()
    _print(console, f"held out: {name}", groups)
    return {label: score.row() for label, score in groups.items()}


def flag(
    engine: ClaimEngine, text: str, product: Any = None, category: str | None = None
) -> dict[str, str]:
    """Rule id → disposition of what the engine finds in one sentence."""
    passports = [passport_from(product, "case")] if product else []
    if not passports and category in PRODUCT_CATEGORIES and category != "other":
        passports = [Passport(category=category)]
    return verdicts(engine, text, passports[0] if passports else None)


def score_clean(engine: ClaimEngine, console: Console, show: bool) -> dict[str, Any]:
    """Harmless talk, each utterance by itself and without a passport."""
    found: dict[str, Any] = {}
    files = sorted(CLEAN_SPEECH.glob("*.txt"))
    held = [path for path in files if part_of(path.stem, ROOM_FILES) == "held"]
    for name, chosen in (("all", files), ("held_out", held)):
        lines = [line for path in chosen for line in talk(path)]
        chars = sum(map(len, lines))
        flags: Counter[str] = Counter()
        flagged = 0
        for line in lines:
            hits = flag(engine, line)
            flagged += bool(hits)
            flags.update(hits.values())
            if show and hits and name == "all":
                console.print("CLEAN", hits, line, markup=False)
        hours = chars / CHARS_PER_HOUR
        rates = {kind: round(count / hours, 3) for kind, count in flags.items()}
        console.print(f"clean speech, {name}: {chars:,} characters, {hours:.1f} h; {rates or 0}/h")
        found[name] = {
            "chars": chars,
            "utterances": len(lines),
            "flagged": flagged,
            "hours": round(hours, 2),
            "flags": dict(flags),
            "flags_per_hour": rates,
            "false_accusations_per_hour": rates.get("violation", 0.0),
        }
    return found


def talk(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def score_rooms(console: Console, show: bool) -> dict[str, Any]:
    groups: dict[str, Score] = defaultdict(Score)
    rooms: dict[str, Any] = {}
    for truth_path in sorted(ROOMS.glob("*.truth.json")):
        truth = json.loads(truth_path.read_text(encoding="utf-8"))
        video = truth_path.with_name(truth_path.name.replace(".truth.json", ".mp4"))
        report = check(video, room=_room(truth), passports=_room_passports(truth))
        score = score_room(truth, report.violations, groups)
        rooms[video.name] = {**score.row(), "misses": score.misses}
        if show:
            for record in report.violations:
                console.print(
                    f"{video.stem} {record.start:.1f} {record.channel} {record.disposition} "
                    f"{record.rule.id} {record.quote}",
                    markup=False,
                )
    _print(console, "sample rooms", groups)
    return {"rooms": rooms, **{name: score.row() for name, score in groups.items()}}


def score_room(
    truth: dict[str, Any], records: Iterable[Violation], groups: dict[str, Score]
) -> Score:
    """Compare one room's records with its truth; adds to `groups` by category and channel."""
    own = Score()
    result = compare(truth, [record.to_json() for record in records])
    for planted, hit in [(p, True) for p in result.found] + [(p, False) for p in result.missed]:
        for score in (own, groups["all"], groups[planted["category"]], groups[planted["channel"]]):
            score.found += hit
            score.missed += not hit
    own.misses = [f"{p['start']:.1f}s {p['channel']} {p['quote']}" for p in result.missed]
    for record in result.extra:
        for score in (own, groups["all"], groups[record["channel"]], groups[record["category"]]):
            score.false_any += 1
            score.false_firm += record["disposition"] == "violation"
    return own


def _room(truth: dict[str, Any]) -> Room:
    return Room(id=truth["room"], ai_host=bool(truth.get("ai_host", False)))


def _room_passports(truth: dict[str, Any]) -> list[Passport]:
    wanted = set(truth.get("products", ()))
    every = load_passports(REPOSITORY / "samples" / "passports.yaml")
    return [passport for passport in every if passport.id in wanted]


def _print(console: Console, title: str, groups: dict[str, Score]) -> None:
    table = Table(
        "", "recall", "precision", "F1", "violations", "lawful", "any", "firm", title=title
    )
    for name, score in groups.items():
        row = score.row()
        table.add_row(
            name,
            *(_show(row[key]) for key in ("recall", "precision", "f1")),
            *(str(row[key]) for key in ("violations", "lawful", "false_any", "false_firm")),
        )
    console.print(table)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
