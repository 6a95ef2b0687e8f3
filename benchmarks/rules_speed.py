"""How fast are the rules? Characters a second, by letter and by sound, beside a bare automaton.

    python -m benchmarks.rules_speed

The peers in the same run: pyahocorasick alone on the same literals (the lower bound: it finds
words and understands nothing) and one `regex` union of the same literals.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import ahocorasick
import regex
from rich.console import Console
from rich.table import Table

from benchmarks.report import write_result
from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.claims.rules import load_rules
from moderator.records import ScriptLine

CORPUS = Path(__file__).parents[1] / "tests" / "data" / "clean_speech"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat

    lines = corpus()
    chars = sum(map(len, lines))
    began = perf_counter()
    engine = ClaimEngine(load_rules())
    load_s = perf_counter() - began
    bare = ahocorasick.Automaton()
    for term in engine.patterns.terms:
        bare.add_word(term, term)
    bare.make_automaton()
    union = regex.compile("|".join(regex.escape(t) for t in engine.patterns.terms))

    def literal() -> None:
        for line in lines:
            engine.patterns.find(engine.normalise(line), by_sound=False)

    def by_sound() -> None:
        for line in lines:
            engine.patterns.find(engine.normalise(line), by_sound=True)

    def whole() -> None:
        session = ClaimSession(engine)
        for line in lines:
            session.observe(ScriptLine(line))

    def automaton() -> None:
        for line in lines:
            for _ in bare.iter(line):
                pass

    def one_regex() -> None:
        for line in lines:
            for _ in union.finditer(line):
                pass

    rows = {
        "rules, literal and expressions": literal,
        "rules, and by sound": by_sound,
        "whole claim engine (context, passports, judge)": whole,
        "pyahocorasick alone, same literals": automaton,
        "regex union, same literals": one_regex,
    }
    rates: dict[str, float] = {}
    for name, run in rows.items():
        run()
        times = []
        for _ in range(repeat):
            began = perf_counter()
            run()
            times.append(perf_counter() - began)
        rates[name] = chars / median(times)

    session = ClaimSession(engine)
    sentence_ms = []
    for line in lines:
        began = perf_counter()
        session.observe(ScriptLine(line))
        sentence_ms.append((perf_counter() - began) * 1000)
    p95_ms = quantiles(sentence_ms, n=20)[18]

    table = Table("what", "characters/s", title=f"{chars:,} characters, {len(lines):,} sentences")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,.0f}")
    console = Console()
    console.print(table)
    console.print(f"p95 of one sentence {p95_ms:.3f} ms; pack loads in {load_s:.2f} s")
    path = write_result(
        "rules_speed",
        {
            "rules": len(engine.pack.rules),
            "literals": len(engine.patterns.terms),
            "sounded_terms": len(engine.pack.sounded_terms()),
            "pack": engine.pack.version,
            "corpus": {"chars": chars, "sentences": len(lines)},
            "chars_per_s": {name: round(rate) for name, rate in rates.items()},
            "sentence_ms": {"p50": round(median(sentence_ms), 4), "p95": round(p95_ms, 4)},
            "load_s": round(load_s, 3),
        },
    )
    console.print(path)


def corpus() -> list[str]:
    """The clean-speech corpus of the tests: harmless talk, one utterance a line."""
    return [
        line.strip()
        for path in sorted(CORPUS.glob("*.txt"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]


if __name__ == "__main__":
    main()
