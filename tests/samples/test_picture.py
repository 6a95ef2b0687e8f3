"""What a screenplay shows can be seen on the frames."""

from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("PIL")
pytest.importorskip("segno")
cv2 = pytest.importorskip("cv2")

from samples import picture, screenplay  # noqa: E402

SAMPLES = Path(__file__).parents[2] / "samples"
PASSPORTS = {
    passport["id"]: passport
    for passport in yaml.safe_load((SAMPLES / "passports.yaml").read_text("utf-8"))
}


@pytest.fixture(scope="module")
def timeline() -> screenplay.Timeline:
    play = screenplay.load(SAMPLES / "rooms/jewelry_and_appliance.yaml")
    return screenplay.time(play, [len(line.text) * 0.2 for line in play.lines])


@pytest.fixture(scope="module")
def stage(timeline: screenplay.Timeline) -> picture.Stage:
    try:
        picture._font(20)
    except RuntimeError as error:
        pytest.skip(str(error))
    return picture.Stage(timeline, PASSPORTS)


def test_picture_code_can_be_scanned(timeline: screenplay.Timeline, stage: picture.Stage) -> None:
    (shown,) = (timed for timed in timeline.events if timed.event.kind == "code")
    frame = np.asarray(stage.frame(shown.start + 1, [0]))
    text, _, _ = cv2.QRCodeDetector().detectAndDecode(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    assert text == shown.event.payload


def test_picture_changes_when_the_banner_comes(
    timeline: screenplay.Timeline, stage: picture.Stage
) -> None:
    banner = next(timed for timed in timeline.events if timed.event.kind == "banner")
    ribbon = (100, 124, 440, 224)
    before = np.asarray(stage.frame(banner.start - 0.1, [0]).crop(ribbon), np.int16)
    after = np.asarray(stage.frame(banner.start + 0.1, [0]).crop(ribbon), np.int16)
    assert np.abs(after - before).mean() > 20


def test_picture_mouth_opens_with_the_voice(stage: picture.Stage) -> None:
    still, talking = (np.asarray(stage.frame(1.0, [mouth]), np.int16) for mouth in (0, 2))
    moved = np.abs(talking - still).sum(axis=2) > 60
    rows, columns = np.nonzero(moved)
    assert len(rows) > 200
    assert 380 < np.median(rows) < 560
    assert 220 < np.median(columns) < 320


def test_picture_ticker_scrolls(timeline: screenplay.Timeline, stage: picture.Stage) -> None:
    ticker = next(timed for timed in timeline.events if timed.event.kind == "ticker")
    band = (0, 866, picture.WIDTH, 900)
    now, later = (
        np.asarray(stage.frame(ticker.start + after, [0]).crop(band), np.int16)
        for after in (1.0, 2.0)
    )
    moved = 60  # pixels a second
    assert np.array_equal(now[:, moved:], later[:, :-moved])


def test_picture_frames_are_of_the_size_promised(stage: picture.Stage) -> None:
    frame = stage.frame(0.0, [0])
    assert frame.size == (picture.WIDTH, picture.HEIGHT) == (540, 960)
    assert len(frame.tobytes()) == 540 * 960 * 3
