from __future__ import annotations

from threading import Barrier, Event, Thread
from time import monotonic, sleep

import numpy as np
import onnx
import pytest

from moderator.claims import classifier as module
from moderator.claims.classifier import NAME, installed_classifier
from moderator.claims.networks import InEightBits, InFloats, Together, in_floats
from moderator.models import locate

TOLD = (
    "这个茶喝半个月瓶瓶罐罐都不用吃了",
    "今天这件衣服是纯棉的",
    "全国卖得最好的就是咱家这款没有之一",
    "好",
    "家人们这个锅口径三十二厘米煤气灶电磁炉都能用拿到手先烧一壶水煮一煮再用啊",
)


@pytest.fixture(scope="module")
def asked():
    classifier = installed_classifier()
    assert classifier is not None
    return [classifier.pieces(text) for text in TOLD]


@pytest.fixture(scope="module")
def floats():
    return InFloats(locate(NAME), "cpu")


def test_floats_have_no_product_in_eight_bits_left():
    graph = in_floats(onnx.load(locate(NAME))).graph

    assert not {"MatMulInteger", "DynamicQuantizeLinear"} & {node.op_type for node in graph.node}
    used = {name for node in graph.node for name in node.input}
    assert {one.name for one in graph.initializer} <= used


def test_floats_say_what_eight_bits_say_but_for_rounding(asked, floats):
    eight = InEightBits(locate(NAME))

    for one in asked:
        assert np.abs(floats.logits(one) - eight.logits(one)).max() < 1.0
        assert (floats.logits(one)[0] > 0) == (eight.logits(one)[0] > 0)


def test_batch_says_what_its_sentences_say_alone(asked, floats):
    alone = np.stack([floats.batch([one])[0] for one in asked])

    np.testing.assert_allclose(floats.batch(asked), alone, atol=1e-4)
    np.testing.assert_allclose(floats.batch(asked[::-1])[::-1], alone, atol=1e-4)


def test_questions_that_wait_are_answered_together_and_each_its_own():
    sizes, first, go_on = [], Event(), Event()

    def answer(questions):
        sizes.append(len(questions))
        first.set()
        assert go_on.wait(10)
        return [question * 2 for question in questions]

    asked, answers, ready = Together(answer, 4), {}, Barrier(6)

    def ask(number):
        ready.wait(10)
        answers[number] = asked(number)

    opening = Thread(target=lambda: answers.update({100: asked(100)}))
    opening.start()
    assert first.wait(10)
    rooms = [Thread(target=ask, args=(number,)) for number in range(5)]
    for room in rooms:
        room.start()
    ready.wait(10)
    until = monotonic() + 10
    while asked._waiting.qsize() < 5 and monotonic() < until:
        sleep(0.001)
    go_on.set()
    for room in (opening, *rooms):
        room.join(10)

    assert answers == {100: 200, **{number: 2 * number for number in range(5)}}
    assert sizes == [1, 4, 1]


def test_failure_reaches_whoever_asked_and_the_next_is_answered():
    def answer(questions):
        return [1 / question for question in questions]

    asked = Together(answer, 8)

    with pytest.raises(ZeroDivisionError):
        asked(0)
    assert asked(4) == 0.25


def test_gpu_that_cannot_run_it_leaves_it_to_the_cpu(monkeypatch):
    def fails(model, device):
        raise RuntimeError("CUDA failure 2: out of memory")

    monkeypatch.setattr(module, "InFloats", fails)
    installed_classifier.cache_clear()
    try:
        assert installed_classifier("cuda:0") is installed_classifier()
    finally:
        installed_classifier.cache_clear()
