"""The rules in force for every room, and how they are replaced while rooms run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from moderator.claims.classifier import keen_channels, semantic_matchers
from moderator.claims.engine import ClaimEngine
from moderator.claims.phonetics import SoundHit
from moderator.claims.rules import load_rules
from moderator.outputs.report import articles_of
from moderator.records import Violation


@dataclass(slots=True)
class Rulebook:
    """One compiled rule pack for all rooms; `reload` swaps it as one step.

    The speech worker asks it for likenesses and so follows a reload by itself; a room goes over
    to the new engine between two observations.
    """

    engine: ClaimEngine
    folder: Path | None = None
    jurisdiction: str = "cn"
    classifier: bool = True
    sensitivity: str = "auto"
    classifier_device: str = "cpu"

    @classmethod
    def load(
        cls,
        folder: Path | None = None,
        jurisdiction: str = "cn",
        *,
        classifier: bool = True,
        sensitivity: str = "auto",
        classifier_device: str = "cpu",
    ) -> Rulebook:
        """Raises what `load_rules` raises, and LM-408. The last three are the settings of those
        names."""
        made = _compile(folder, jurisdiction, classifier, sensitivity, classifier_device)
        return cls(made, folder, jurisdiction, classifier, sensitivity, classifier_device)

    @property
    def version(self) -> str:
        return self.engine.pack.version

    def likenesses(self, text: str) -> Iterable[SoundHit]:
        """The places of `text` that sound like a term of the rules in force."""
        return self.engine.likenesses(text)

    def articles(self, record: Violation) -> dict[str, str]:
        """The texts of the articles that a record cites, by the rules in force."""
        return articles_of(self.engine.pack, [record])

    def reload(self, folder: Path | None = None, jurisdiction: str | None = None) -> ClaimEngine:
        """Read the pack again. Raises what `load_rules` raises, with the old rules in force."""
        jurisdiction = jurisdiction or self.jurisdiction
        engine = _compile(
            folder, jurisdiction, self.classifier, self.sensitivity, self.classifier_device
        )
        self.folder, self.jurisdiction, self.engine = folder, jurisdiction, engine
        return engine


def _compile(
    folder: Path | None, jurisdiction: str, classifier: bool, sensitivity: str, device: str
) -> ClaimEngine:
    pack = load_rules(folder, jurisdiction)
    keen = keen_channels(sensitivity)
    matchers = semantic_matchers(pack, keen, device) if classifier else ()
    engine = ClaimEngine(pack, matchers)
    engine.compile()
    # Builds the indexes of sounds now, and not when a room first speaks.
    engine.likenesses("预热")
    engine.reheard(engine.normalise("预热"), (0.5, 0.5))
    return engine
