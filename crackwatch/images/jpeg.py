"""JPEG's own structure, from the first marker to the last; decodes nothing."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace

from crackwatch.images.exif import EXIF, exif_orientation
from crackwatch.images.headers import UPRIGHT, Header, contradictory, truncated

# More than any camera or program writes; without a bound, 64 MiB of two-byte segments would cost
# minutes.
MAX_SEGMENTS = 65_536
# A progressive JPEG has about ten scans. Each goes over the whole picture, however few bytes it has:
# without a bound 100 KB would keep a decoder busy for minutes.
MAX_SCANS = 128

# A marker that means something: not a stuffed zero, not a restart, not a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

_TEM, _SOI, _EOI, _SOS, _APP1 = 0x01, 0xD8, 0xD9, 0xDA, 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL_FRAMES = frozenset({0xC0, 0xC1})  # Huffman-coded, each block whole, from the top


def jpeg(data: bytes) -> Header:
    """Walks segments by their lengths, so that the end of an embedded thumbnail does not count."""
    frame: _Frame | None = None
    scans = 0
    interleaved = False
    orientation: int | None = None
    exif: list[tuple[int, int]] = []
    at = 2
    for _ in range(MAX_SEGMENTS):
        match = _MARKER.search(data, at)
        if match is None:
            raise truncated("JPEG", f"no end marker in {len(data)} bytes")
        at = match.end()
        marker = data[at - 1]
        if marker == _EOI:
            if not scans:
                raise contradictory("JPEG", "it ends before any picture data")
            frame = frame or _Frame(0, 0, 0, 0, 0, b"")
            header = frame.header(scans == 1 and interleaved, orientation or UPRIGHT)
            return replace(header, exif=tuple(exif)) if exif else header
        if marker == _TEM:
            continue
        if marker == _SOI:
            raise contradictory("JPEG", f"a second picture begins at byte {at - 2}")
        length = int.from_bytes(data[at : at + 2], "big")
        if at + max(length, 2) > len(data):
            raise truncated("JPEG", f"the segment at byte {at - 2} is longer than the file")
        if length < 2:
            raise contradictory("JPEG", f"the segment at byte {at - 2} has length {length}")
        if marker in _FRAMES:
            if length < 8:
                raise contradictory("JPEG", f"the frame header at byte {at - 2} is too short")
            if frame is None or not frame.width:
                depth, height, width, channels = struct.unpack_from(">BHHB", data, at + 2)
                sampling = data[at + 9 : min(at + length, at + 8 + 3 * channels) : 3]
                frame = _Frame(marker, width, height, channels, depth, sampling)
        elif marker == _SOS:
            scans += 1
            if scans > MAX_SCANS:
                raise contradictory("JPEG", f"it has more than {MAX_SCANS} scans")
            interleaved = frame is not None and length > 2 and data[at + 2] == frame.channels
        elif marker == _APP1 and data.startswith(EXIF, at + 2):
            exif.append((at - 2, at + length))
            if orientation is None:
                orientation = exif_orientation(data[at + 2 : at + length])
        at += length
    raise contradictory("JPEG", f"it has more than {MAX_SEGMENTS} segments")


@dataclass(frozen=True, slots=True)
class _Frame:
    marker: int
    width: int
    height: int
    channels: int
    depth: int
    sampling: bytes  # of each channel: how finely across (4 bits) and down (4 bits)

    @property
    def samples(self) -> float:
        """A pixel has, over all channels: 1.5 of a colour picture whose colours are coarser."""
        across = [each >> 4 for each in self.sampling]
        down = [each & 15 for each in self.sampling]
        finest = max(across, default=0) * max(down, default=0)
        if not finest or len(self.sampling) != self.channels:
            return float(self.channels)  # damaged; the decoder will say so
        return sum(a * d for a, d in zip(across, down, strict=True)) / finest

    def header(self, one_scan: bool, orientation: int) -> Header:
        """``one_scan``: all channels lie in a single scan, beside one another."""
        from_the_top = one_scan and self.marker in _SEQUENTIAL_FRAMES
        return Header(
            "JPEG",
            self.width,
            self.height,
            orientation,
            channels=self.channels,
            sample_bytes=1 if self.depth <= 8 else 2,
            # four channels are ink: OpenCV has its own way to turn them into colours
            sequential=from_the_top and self.depth == 8 and self.channels in (1, 3),
            coefficients=0.0 if from_the_top else self.samples,
        )
