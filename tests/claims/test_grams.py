from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from moderator.claims.grams import GAPS, LONGEST, Grams, grams_in


def test_every_run_of_a_sentence_is_counted_once() -> None:
    # ^ab$: four characters, three pairs, two triples, the whole; a gap needs three letters.
    assert len(grams_in("ab")) == 4 + 3 + 2 + 1
    # ^abc$ has 5 + 4 + 3 + 2 runs, and a·c with one letter between.
    assert len(grams_in("abc")) == 5 + 4 + 3 + 2 + 1
    assert len(grams_in("哈哈")) == len({"^", "哈", "$", "^哈", "哈哈", "哈$"}) + 3
    assert LONGEST == 4
    assert GAPS == (1, 2)


def test_order_counts() -> None:
    there, back = grams_in("不能治病"), grams_in("病治能不")
    assert set(there) != set(back)
    assert set(there) == set(grams_in("不能治病"))
    assert len(grams_in("")) == 3  # the two edges, and both together


def test_runs_without_a_weight_say_nothing(tmp_path: Path) -> None:
    known = np.sort(grams_in("治病"))
    weights = np.full(len(known), 50, np.int8)
    grams = Grams(known, weights, scale=0.1, offset=-1.0)
    assert grams.says("包邮") == pytest.approx(0.1 * 50 * 2 / math.sqrt(10) - 1.0)  # the two edges
    assert grams.says("治病") == pytest.approx(0.1 * 50 * 10 / math.sqrt(10) - 1.0)
    assert Grams(known[:0], weights[:0], 0.1, -1.0).says("治病") == -1.0
    grams.save(tmp_path / "grams.npz")
    again = Grams.load(tmp_path / "grams.npz")
    assert again.says("不治病") == pytest.approx(grams.says("不治病"))


def test_what_runs_say_is_learned() -> None:
    pytest.importorskip("torch")
    from models.claim_classifier.grams import fit_grams

    said = ["喝了就不用吃药", "三天去根", "今天包邮", "这件是纯棉的"]
    unlawful = np.array([True, True, False, False] * 40)
    grams = fit_grams(said * 40, unlawful, np.ones(160), seed=0)
    assert [grams.says(text) > 0 for text in said] == [True, True, False, False]
    assert grams.says("邻居喝了就不用吃药了") > 0 > grams.says("家人们今天包邮")
    assert np.all(np.diff(grams.runs.astype(np.int64)) > 0)
