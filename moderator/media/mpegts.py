"""The first and the last time stamp in an MPEG transport stream, without a decoder.

ISO/IEC 13818-1: packets of 188 bytes (2.4.3.2), PES headers with a PTS of 33 bits at 90 kHz
(2.4.3.6).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PACKET_BYTES = 188
WRAP_S = (1 << 33) / 90_000
"""After 26.5 hours a PTS begins again at zero."""

_LOOK_BYTES = PACKET_BYTES * 2048


def first_pts(path: Path) -> float | None:
    """The earliest of the first PTS of each track, seconds; None when there is none yet."""
    with path.open("rb") as file:
        data = file.read(_LOOK_BYTES)
    firsts: dict[int, float] = {}
    for pid, pts in _stamps(data):
        firsts.setdefault(pid, pts)
    return min(firsts.values(), default=None)


def last_pts(path: Path) -> float | None:
    """The latest PTS near the end of the file, seconds; None when there is none."""
    with path.open("rb") as file:
        size = file.seek(0, 2) // PACKET_BYTES * PACKET_BYTES
        file.seek(max(0, size - _LOOK_BYTES))
        data = file.read(_LOOK_BYTES)
    return max((pts for _, pts in _stamps(data)), default=None)


def _stamps(data: bytes) -> Iterator[tuple[int, float]]:
    """Packet identifier and PTS of each PES packet that begins in `data`."""
    for at in range(0, len(data) - PACKET_BYTES + 1, PACKET_BYTES):
        packet = data[at : at + PACKET_BYTES]
        if packet[0] != 0x47 or not packet[1] & 0x40 or not packet[3] & 0x10:
            continue
        payload = 5 + packet[4] if packet[3] & 0x20 else 4
        pes = packet[payload : payload + 14]
        if len(pes) < 14 or pes[:3] != b"\x00\x00\x01" or not pes[7] & 0x80:
            continue
        pid = (packet[1] & 0x1F) << 8 | packet[2]
        pts = (
            (pes[9] >> 1 & 0x07) << 30
            | pes[10] << 22
            | (pes[11] >> 1) << 15
            | pes[12] << 7
            | pes[13] >> 1
        )
        yield pid, pts / 90_000
