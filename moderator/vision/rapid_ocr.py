"""RapidOCR (PP-OCRv6 small, inside its wheel) behind the OcrEngine protocol.

Reading a frame is detection (where is text) and recognition (what does it say). Recognition costs
about 10 ms a line and most lines of a live room stand still, so a line whose pixels have not
changed since it was read keeps its reading. Recognition runs one line at a time and pads to the
line's own width: RapidOCR's batches of six pad every line to the longest one, which on a CPU costs
more than batching saves. On a GPU it is the other way round: there `read_many` detects frames of
one size together and recognises the lines of all of them in batches sorted by width.

Detection costs by the area, some 0.1 s a frame on one core, and most of the frame has mostly been
read before: `read_places` looks for text in the parts that have changed only. Its network is full
of subnormal numbers, which are flushed to zero: an Intel Xeon takes three times as long otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderator.errors import ENGINE_MISSING, MODEL_LOAD, WEIGHTS_MISSING, ModeratorError
from moderator.records import Box
from moderator.subnormals import flushed
from moderator.vision.ocr import FrameLines, Image, TextLine

INSTALL = "live-stream-moderator[embedded]"

_WEIGHTS = {
    "Det.model_path": "PP-OCRv6_det_small.onnx",
    "Rec.model_path": "PP-OCRv6_rec_small.onnx",
}


class RapidOcr:
    """Chinese and English text, horizontal or in columns, at any place of the frame.

    `threads` is what onnxruntime uses inside one operator; its workers spin while they wait, so two
    threads on two cores that also do something else cost twice the CPU and gain little.
    `detect_side` is the longer side in pixels that a frame is scaled down to for detection. Lines
    are cropped from the full frame, so it bounds the size of text that is found and not how well it
    is read: at 736, text of 11 pixels on 540×960 frames compressed at crf 35 was found. Lines below
    `min_confidence` are dropped. `cache_lines` is how many unchanged lines are remembered, over all
    rooms that share the engine; 0 reads everything anew. `device` is `cpu` or `cuda:N`; `batch` is
    how many frames `read_many` likes at once, and 1 leaves it at one by one.

    The weights come from the installed wheel, nothing is downloaded, and engines with the same
    `threads` and `detect_side` share one copy of them. An instance is not thread-safe: one worker
    owns it. Raises LM-402 when rapidocr is not installed, LM-403 when its wheel lacks the weights,
    LM-405 when they do not load.
    """

    def __init__(
        self,
        *,
        threads: int = 1,
        detect_side: int = 736,
        min_confidence: float = 0.5,
        cache_lines: int = 256,
        device: str = "cpu",
        batch: int = 1,
    ) -> None:
        self.detect_side = detect_side
        self.min_confidence = min_confidence
        self.device = device
        self.batch = batch
        self._engine = _load(threads, detect_side, device, 1 if batch == 1 else _LINES_A_BATCH)
        self._cache = _ReadingCache(cache_lines)
        self.name = f"rapidocr-{version('rapidocr')}/PP-OCRv6-small"
        self.lines_recognised = 0
        self.lines_reused = 0

    def read(self, image: Image) -> list[TextLine]:
        """Lines of text on a BGR frame, top to bottom then left to right."""
        with flushed():
            return self._recognised([image], [self._detect(image)])[0]

    def read_many(self, images: Sequence[Image]) -> list[list[TextLine]]:
        """As `read` for each frame, in the order given; frames may differ in size."""
        with flushed():
            return self._recognised(images, self._detect_many(images))

    def read_places(self, image: Image, places: Sequence[Box]) -> FrameLines:
        """Lines whose middle lies in `places`, read as `read` would.

        Where one of them cuts through a line, and of a frame that RapidOCR feeds to its detector
        only after changing it, the lines of all of the frame.
        """
        if not _is_plain(image):
            return FrameLines(self.read(image))
        quads = []
        with flushed():
            for place in places:
                found = self._detect_in(image, place)
                if found is None:
                    return FrameLines(self.read(image))
                quads += found
            return FrameLines(self._recognised([image], [quads])[0], places)

    def _recognised(
        self, images: Sequence[Image], quads: Sequence[list[NDArray[np.float32]]]
    ) -> list[list[TextLine]]:
        frames = [
            _Frame(image, _luma(image), found, [_bounds(quad, image) for quad in found])
            for image, found in zip(images, quads, strict=True)
        ]
        unread: list[tuple[_Frame, int]] = []
        for frame in frames:
            frame.readings = [self._cache.find(frame.luma, box) for box in frame.boxes]
            unread += [(frame, i) for i, known in enumerate(frame.readings) if known is None]
            self.lines_reused += sum(known is not None for known in frame.readings)
        self.lines_recognised += len(unread)
        if unread:
            crops = [
                crop
                for frame in frames
                if (mine := [frame.quads[i] for one, i in unread if one is frame])
                for crop in self._engine.crop_text_regions(frame.image, mine)
            ]
            recognised = self._engine.recognize_txt(crops)
            for (frame, index), text, score in zip(
                unread, recognised.txts, recognised.scores, strict=True
            ):
                frame.readings[index] = reading = _Reading(text.strip(), float(score))
                self._cache.put(frame.luma, frame.boxes[index], reading)
        return [self._lines(frame) for frame in frames]

    def _lines(self, frame: _Frame) -> list[TextLine]:
        lines = [
            TextLine(reading.text, box, reading.confidence)
            for box, reading in zip(frame.boxes, frame.readings, strict=True)
            if reading and reading.text and reading.confidence >= self.min_confidence
        ]
        return sorted(lines, key=lambda line: (line.box.y0, line.box.x0))

    def _detect(self, image: Image) -> list[NDArray[np.float32]]:
        found = self._engine(image, use_det=True, use_cls=False, use_rec=False)
        boxes = getattr(found, "boxes", None)
        if boxes is None:
            return []
        return [np.asarray(quad, dtype=np.float32) for quad in boxes]

    def _detect_in(self, image: Image, place: Box) -> list[NDArray[np.float32]] | None:
        """Lines with their middle in `place`, as quads on the frame; None where one is cut off."""
        import cv2

        height, width = image.shape[:2]
        scale = min(1.0, self.detect_side / max(height, width))
        # The network takes sides of whole multiples of 32 pixels, at the scale of the frame.
        x0, x1 = _aligned(place.x0, place.x1, width, _DETECTOR_GRID / scale)
        y0, y1 = _aligned(place.y0, place.y1, height, _DETECTOR_GRID / scale)
        part = image[y0:y1, x0:x1]
        sides = [
            max(_DETECTOR_GRID, round(side * scale / _DETECTOR_GRID) * _DETECTOR_GRID)
            for side in (x1 - x0, y1 - y0)
        ]
        detector = self._engine.text_det
        prepared = detector.get_preprocess()(cv2.resize(part, sides))
        quads, _ = detector.postprocess_op(detector.session(prepared), part.shape[:2])
        found = []
        for quad in detector.sorted_boxes(quads) if len(quads) else ():
            on_frame = np.asarray(quad, dtype=np.float32) + np.array([x0, y0], np.float32)
            left, top = on_frame.min(axis=0)
            right, bottom = on_frame.max(axis=0)
            if not (
                place.x0 <= (left + right) / 2 < place.x1
                and place.y0 <= (top + bottom) / 2 < place.y1
            ):
                continue
            cut = (
                (left <= x0 + 1 and x0 > 0)
                or (top <= y0 + 1 and y0 > 0)
                or (right >= x1 - 1 and x1 < width)
                or (bottom >= y1 - 1 and y1 < height)
            )
            if cut:
                return None
            found.append(on_frame)
        return found

    def _detect_many(self, images: Sequence[Image]) -> list[list[NDArray[np.float32]]]:
        """Detection of frames of one size in one run of the network; others by themselves."""
        sizes: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(images):
            sizes.setdefault(image.shape, []).append(index)
        found: dict[int, list[NDArray[np.float32]]] = {}
        for chosen in sizes.values():
            together = len(chosen) > 1 and _is_plain(images[chosen[0]])
            frames = [images[index] for index in chosen]
            detected = (
                self._detect_alike(frames) if together else [self._detect(one) for one in frames]
            )
            found.update(zip(chosen, detected, strict=True))
        return [found[index] for index in range(len(images))]

    def _detect_alike(self, images: Sequence[Image]) -> list[list[NDArray[np.float32]]]:
        # RapidOCR's detector takes one frame at a time; its network takes many.
        detector = self._engine.text_det
        prepare = detector.get_preprocess()
        maps = detector.session(np.concatenate([prepare(image) for image in images]))
        found = []
        for row, image in enumerate(images):
            quads, _ = detector.postprocess_op(maps[row : row + 1], image.shape[:2])
            ordered = detector.sorted_boxes(quads) if len(quads) else []
            found.append([np.asarray(quad, dtype=np.float32) for quad in ordered])
        return found


_DETECTOR_GRID = 32


def _aligned(begin: int, end: int, limit: int, step: float) -> tuple[int, int]:
    """The stretch widened on both sides to whole steps, within 0…limit."""
    wanted = min(ceil((end - begin) / step) * step, limit)
    first = min(max(begin - (wanted - (end - begin)) / 2, 0.0), limit - wanted)
    return int(first), min(ceil(first + wanted), limit)


def _is_plain(image: Image) -> bool:
    """Whether RapidOCR feeds the frame to its detector as it is, neither resized nor padded
    before.
    """
    height, width = image.shape[:2]
    return bool(min(height, width) >= 30 and max(height, width) <= 2000 and width <= 8 * height)


_LINES_A_BATCH = 32
"""Lines of text recognised in one run on a GPU."""


@dataclass(slots=True, eq=False)
class _Frame:
    """A frame while it is read: where text is, and what is known of it so far."""

    image: Image
    luma: NDArray[np.uint8]
    quads: list[NDArray[np.float32]]
    boxes: list[Box]
    readings: list[_Reading | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Reading:
    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class _Remembered:
    place: Box
    patch: NDArray[np.uint8]
    reading: _Reading


class _ReadingCache:
    """Readings of lines whose pixels are still the same.

    A reading is reused when a box is found within a third of a line height of the remembered one
    on every side, and the pixels of the remembered place (the box and that margin around it) are
    the same now. Comparing the remembered place, rather than the new crop, is what makes a
    detection box that trembles by a pixel or two harmless; the margin is what notices characters
    appended to a line. The pixels kept are those that were read: slow drift adds up and is noticed.
    """

    margin = 0.34
    trusted_confidence = 0.9
    max_difference = 28.0
    """Grey levels, mean over a window of a sixth of the line height. Measured after H.264 on text
    of 14 to 60 pixels: standing text differs by at most 16 at crf 28; at crf 35 by at most 18 from
    20 pixels up, by as much as 40 below (which only costs a second recognition). One character
    changing to a similar one (3 to 8, 5 to 6) differs by at least 45."""

    def __init__(self, capacity: int) -> None:
        self._entries: list[_Remembered | None] = [None] * capacity
        # One row an entry, so that all places are compared at once.
        self._boxes = np.full((capacity, 4), _NOWHERE, np.int32)
        self._used = np.zeros(capacity, np.int64)
        self._clock = 0

    def find(self, luma: NDArray[np.uint8], box: Box) -> _Reading | None:
        slack = self.margin * min(box.x1 - box.x0, box.y1 - box.y0)
        apart = np.abs(self._boxes - _corners(box)).max(axis=1, initial=0)
        near = np.flatnonzero(apart <= slack)
        for index in near[np.argsort(-self._used[near])].tolist():
            entry: _Remembered | None = self._entries[index]
            if entry is not None and self._unchanged(luma, entry):
                self._use(index)
                return entry.reading
        return None

    def put(self, luma: NDArray[np.uint8], box: Box, reading: _Reading) -> None:
        """Remember a reading; a doubtful one is better read again next time."""
        if not self._entries or reading.confidence < self.trusted_confidence:
            return
        index = self._place_for(luma, box)
        slack = self.margin * min(box.x1 - box.x0, box.y1 - box.y0)
        place = _grown(box, int(slack) + 1, luma)
        patch = luma[place.y0 : place.y1, place.x0 : place.x1].copy()
        self._entries[index] = _Remembered(place, patch, reading)
        self._boxes[index] = _corners(box)
        self._use(index)

    def _place_for(self, luma: NDArray[np.uint8], box: Box) -> int:
        """Where the very same line was remembered, else the entry that was of no use longest."""
        for index in np.flatnonzero((self._boxes == _corners(box)).all(axis=1)).tolist():
            entry = self._entries[index]
            if entry is not None and self._unchanged(luma, entry):
                return index
        return int(np.argmin(self._used))

    def _use(self, index: int) -> None:
        self._clock += 1
        self._used[index] = self._clock

    def _unchanged(self, luma: NDArray[np.uint8], entry: _Remembered) -> bool:
        import cv2

        place = entry.place
        now = luma[place.y0 : place.y1, place.x0 : place.x1]
        if now.shape != entry.patch.shape:
            return False
        window = max(3, min(now.shape) // 6)
        difference = cv2.blur(cv2.absdiff(now, entry.patch), (window, window))
        return float(difference.max()) <= self.max_difference


@lru_cache(maxsize=4)
def _load(threads: int, detect_side: int, device: str, lines: int) -> Any:
    try:
        import rapidocr
    except ImportError as missing:
        raise ModeratorError(
            ENGINE_MISSING, name="rapidocr", package="rapidocr", install=INSTALL
        ) from missing
    folder = Path(rapidocr.__file__).parent / "models"
    weights = {option: folder / name for option, name in _WEIGHTS.items()}
    for path in weights.values():
        if not path.is_file():
            raise ModeratorError(
                WEIGHTS_MISSING, name=path.name, where=folder, install="rapidocr>=3.10"
            )
    # Named model paths keep RapidOCR from looking for, and downloading, others.
    options = {
        **{option: str(path) for option, path in weights.items()},
        "Global.log_level": "critical",
        "EngineConfig.onnxruntime.intra_op_num_threads": threads,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        "Det.limit_side_len": detect_side,
        "Det.limit_type": "max",
        "Rec.rec_batch_num": lines,
        "Rec.rec_img_shape": [3, 48, 96],
    }
    if device != "cpu":
        # Shapes change from frame to frame: searching algorithms for each would never end.
        options |= {
            "EngineConfig.onnxruntime.use_cuda": True,
            "EngineConfig.onnxruntime.cuda_ep_cfg.device_id": int(device.partition(":")[2] or 0),
            "EngineConfig.onnxruntime.cuda_ep_cfg.cudnn_conv_algo_search": "HEURISTIC",
        }
    blank = np.zeros((48, 96, 3), dtype=np.uint8)
    try:
        engine = rapidocr.RapidOCR(params=options)
        # RapidOCR loads a model at its first use; a model that does not load is told of here.
        engine(blank, use_det=True, use_cls=False, use_rec=False)
        engine.recognize_txt([blank])
        return engine
    except Exception as broken:
        raise ModeratorError(MODEL_LOAD, name="rapidocr", reason=broken) from broken


def _bounds(quad: NDArray[np.float32], image: Image) -> Box:
    height, width = image.shape[:2]
    x0 = min(max(int(quad[:, 0].min()), 0), width - 1)
    y0 = min(max(int(quad[:, 1].min()), 0), height - 1)
    x1 = min(int(np.ceil(quad[:, 0].max())), width)
    y1 = min(int(np.ceil(quad[:, 1].max())), height)
    return Box(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))


def _luma(image: Image) -> NDArray[np.uint8]:
    import cv2

    luma: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return luma


_NOWHERE = -(2**20)


def _corners(box: Box) -> tuple[int, int, int, int]:
    return box.x0, box.y0, box.x1, box.y1


def _grown(box: Box, by: int, luma: NDArray[np.uint8]) -> Box:
    height, width = luma.shape
    return Box(
        max(box.x0 - by, 0),
        max(box.y0 - by, 0),
        min(box.x1 + by, width),
        min(box.y1 + by, height),
    )
