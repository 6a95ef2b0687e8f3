from __future__ import annotations

import numpy as np
import pytest

from moderator.vision.codes import ZxingCodes
from moderator.vision.ocr import Image
from tests.vision.frames import room_background

zxingcpp = pytest.importorskip("zxingcpp")


def with_code(payload: str, x: int, y: int, size: int, *, symbology: str = "QRCode") -> Image:
    import cv2

    barcode = zxingcpp.create_barcode(payload, getattr(zxingcpp.BarcodeFormat, symbology))
    modules = np.asarray(zxingcpp.write_barcode_to_image(barcode, scale=4))
    height = size * modules.shape[0] // modules.shape[1]
    frame = room_background()
    frame[y : y + height, x : x + size] = cv2.resize(
        modules, (size, height), interpolation=cv2.INTER_AREA
    )[:, :, None]
    return frame


@pytest.mark.parametrize("payload", ["https://u.wechat.com/MBcDeFgHiJk", "加微信vx12345领内部福利"])
@pytest.mark.parametrize("size", [80, 200])
def test_codes_reads_payload_and_place(payload: str, size: int) -> None:
    (found,) = ZxingCodes().read(with_code(payload, 300, 600, size))
    assert (found.text, found.symbology) == (payload, "QRCode")
    assert 300 <= found.box.x0 < found.box.x1 <= 300 + size
    assert 600 <= found.box.y0 < found.box.y1 <= 600 + size
    assert found.box.x1 - found.box.x0 > size / 2


def test_codes_reads_a_product_barcode() -> None:
    (found,) = ZxingCodes().read(with_code("6901234567892", 100, 300, 300, symbology="EAN13"))
    assert (found.text, found.symbology) == ("6901234567892", "EAN13")


def test_codes_reads_several_at_once() -> None:
    frame = with_code("first", 40, 100, 120)
    frame[600:800] = with_code("second", 300, 600, 150)[600:800]
    assert {found.text for found in ZxingCodes().read(frame)} == {"first", "second"}


def test_codes_finds_none_on_a_plain_frame() -> None:
    assert ZxingCodes().read(room_background()) == []
