from __future__ import annotations

import pytest

from tests.vision.frames import cjk_font


@pytest.fixture
def chinese() -> None:
    """Skips where Chinese text cannot be drawn."""
    pytest.importorskip("PIL", reason="Pillow draws the frames")
    if cjk_font() is None:
        pytest.skip("no CJK font (apt-get install fonts-noto-cjk)")
