from __future__ import annotations

import hashlib
import json

import pytest

from models.claim_classifier.card import CARD, REPORT, filled

FOLDER = CARD.parent
REPORTED = json.loads(REPORT.read_text(encoding="utf-8"))


def test_model_card_says_what_the_last_training_measured() -> None:
    card = CARD.read_text(encoding="utf-8")
    assert filled(card, REPORTED) == card, "run: python -m models.claim_classifier.card"


def test_model_card_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"<!-- quality -->.*0 times"):
        filled("<!-- data -->\n<!-- /data -->\n", REPORTED)


def test_model_card_is_about_the_weights_beside_it() -> None:
    about = json.loads((FOLDER / "labels.json").read_text(encoding="utf-8"))
    weights = b"".join((FOLDER / name).read_bytes() for name in ("model.onnx", "grams.npz"))
    sizes = [(FOLDER / name).stat().st_size for name in ("tokenizer.json", "labels.json")]
    assert len(weights) + sum(sizes) == REPORTED["export"]["bytes"]
    assert hashlib.sha256(weights).hexdigest().startswith(about["version"])
    assert about["labels"] == REPORTED["labels"]
