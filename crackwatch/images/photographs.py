"""A photograph as a stream of the model's tiles in bounded memory; knows no model and no verdict.

What lies in its file row by row is decoded row by row, and no more of it is held than the tiles
being cut need. What does not is decoded whole, up to a limit of its own. What is more than a limit
allows is refused by its header.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from crackwatch.domain import QuarantineReason
from crackwatch.errors import Unreadable
from crackwatch.images import Limits, conversion, decode_with, formats, is_larger, whole
from crackwatch.images.conversion import Pixels
from crackwatch.images.headers import Header
from crackwatch.runtime import SIDE
from crackwatch.tiling import Layout, lay_out
from crackwatch.tiling import boxes as places_of

BATCH_TILES: Final = 64
HELD_BYTES: Final = 384 << 20  # by the decoding of one photograph; more is refused
NATIVE_WITHIN: Final = 0.03  # a factor so near to 1 changes no crack: nothing is resampled

_TILE_BYTES = SIDE * SIDE * 3
_FIXED_BYTES = 24 << 20  # the decoders themselves, where they are used for the first time
_STRIP_ROWS = 2048  # that libvips keeps of a picture
_THUMBNAIL_ROWS = 64
_OPENCV_CHANNELS = {1: 1, 2: 4, 3: 3, 4: 4}  # of a decoded picture, by those in its file

Indices = NDArray[np.intp]
Box = tuple[int, int, int, int]  # x, y, width, height


@dataclass(frozen=True, slots=True)
class Tiling:
    """How photographs are cut: ``overlap`` is in pixels of the model's scale, 0..SIDE - 1.

    ``scale`` is how many of the model's pixels a photograph's pixel is: the photograph's
    millimetres per pixel divided by those that the model was trained at; more than 0.
    """

    overlap: int = 64
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < SIDE:
            raise ValueError(f"overlap is {self.overlap}; it must be from 0 to {SIDE - 1}")
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale is {self.scale}; it must be above 0")

    @property
    def factor(self) -> float:
        """``scale``, or 1.0 where it is as good as that."""
        return 1.0 if abs(self.scale - 1) <= NATIVE_WITHIN else self.scale


class _Rows(Protocol):
    """Gives the rows of a picture from top to bottom, once."""

    def read_into(self, rows: Pixels) -> None: ...


class Photograph:
    """What is known of a photograph before it is decoded, and then its tiles.

    ``width`` and ``height`` are those of the upright picture in its own pixels. ``layout`` has its
    tiles at the model's scale, where it is ``layout.width`` x ``layout.height``; ``scale`` is the
    factor between the two, 1.0 where nothing is resampled. (A side of less than 227 is stretched to
    that, as ``decode`` does, whatever the scale.) Holds the file's bytes and nothing decoded.
    """

    def __init__(self, data: bytes, header: Header, tiling: Tiling) -> None:
        self._data = data
        self._header = header
        self.scale = tiling.factor
        self.overlap = tiling.overlap
        self.width, self.height = _upright(header)
        self.layout = _layout(header, tiling)

    @property
    def boxes(self) -> NDArray[np.intp]:
        """What each tile shows in the upright photograph's own pixels, (N, 4): x, y, width, height.

        See ``tiling.boxes``; at the native scale every box is SIDE x SIDE.
        """
        every = np.arange(len(self.layout), dtype=np.intp)
        return places_of(self.layout, every, self.width, self.height)

    def tiles(self) -> Iterator[tuple[Indices, Pixels]]:
        """Every tile once: (indices (n,), pixels uint8 (n, SIDE, SIDE, 3) BGR), n <= BATCH_TILES.

        An index counts as ``Layout`` does; the order follows the rows of the file. Decodes the
        photograph anew at each call. The last rows may still be found damaged: what came before is
        then worth nothing. Raises Unreadable (UNREADABLE), and SystemFault if memory runs out.
        """
        header = self._header
        rows, header = self._open()
        boxes = [_stored(_box(each), header) for each in self.boxes]
        order = sorted(range(len(boxes)), key=lambda index: (boxes[index][1], boxes[index][0]))
        band = _Band(rows, header, max(box[3] for box in boxes))
        for start in range(0, len(order), BATCH_TILES):
            indices = order[start : start + BATCH_TILES]
            batch = np.empty((len(indices), SIDE, SIDE, 3), np.uint8)
            for tile, index in zip(batch, indices, strict=True):
                crop = conversion.turned(band.crop(boxes[index]), header.orientation)
                tile[:] = crop if crop.shape == tile.shape else conversion.fitted(crop)
            yield np.array(indices, np.intp), batch

    @property
    def side_px(self) -> int:
        """How many of its own pixels a tile's side shows."""
        return max(1, round(SIDE / self.scale))

    def cut(self, boxes: Indices) -> list[Pixels]:
        """Each of ``boxes`` (n, 4) as the model would see it: uint8 (SIDE, SIDE, 3) BGR.

        Rows of x, y, width, height in own upright pixels, inside the picture; of what is not SIDE
        x SIDE the sides are fitted as a tile's are. A tile's box gives the tile, bit for bit.
        Raises as ``tiles`` does, ValueError for a box that is not inside.
        """
        found = {index: square.copy() for index, square in self.squares(boxes)}
        return [found[index] for index in range(len(found))]

    def squares(self, boxes: Indices) -> Iterator[tuple[int, Pixels]]:
        """The same one by one, with the place in ``boxes`` of each, from top to bottom of the file.

        Each is valid until the next one: of many no more is held than of a few.
        """
        for index, crop in self.crops(boxes):
            yield index, crop if crop.shape[:2] == (SIDE, SIDE) else conversion.fitted(crop)

    def crops(self, boxes: Indices) -> Iterator[tuple[int, Pixels]]:
        """The place in ``boxes`` (n, 4) and the own pixels of each, from top to bottom of the file.

        Upright, (height, width, 3), valid until the next one. Raises as ``cut`` does.
        """
        wanted = [_box(each) for each in boxes]
        for x, y, width, height in wanted:
            inside = min(x, y) >= 0 and x + width <= self.width and y + height <= self.height
            if not inside or min(width, height) < 1:
                raise ValueError(f"{width} x {height} at {x}, {y} is not inside the photograph")
        if not wanted:
            return
        rows, header = self._open()
        stored = [_stored(each, header) for each in wanted]
        band = _Band(rows, header, max(box[3] for box in stored))
        for index in sorted(range(len(stored)), key=lambda each: stored[each][1]):
            yield index, conversion.turned(band.crop(stored[index]), header.orientation)

    def _open(self) -> tuple[_Rows, Header]:
        """The photograph's rows, and the header of a picture that has them as they come."""
        return _open(self._data, self._header)


def look(data: bytes, limits: Limits, tiling: Tiling) -> Pixels | Photograph:
    """What a file holds: a crop, decoded as ``images.decode`` does it, or a photograph to be cut.

    Raises what ``images.decode`` and ``open_photograph`` raise.
    """
    header = formats.read_header(data)
    if limits.tiles(header):
        return _opened(header, data, limits, tiling)
    return decode_with(header, data, limits)


def open_photograph(data: bytes, limits: Limits, tiling: Tiling) -> Photograph:
    """The photograph that a file holds; of its picture data nothing is kept.

    Its samples become uint8 BGR as ``images.decode`` has it, by the same code.

    Raises Unreadable: what ``check_complete`` raises; OVERSIZE, from the header alone, for more
    than ``limits.max_pixels`` (in the file, or at the model's scale) and for what would hold more
    than HELD_BYTES; UNREADABLE where a JPEG's data are damaged, which is heard beforehand. Raises
    ValueError for a picture that ``limits`` do not have cut into tiles: see ``is_photograph``.
    """
    header = formats.read_header(data)
    limits.require(header)
    if not limits.tiles(header):
        raise ValueError(f"{header.width} x {header.height} is no photograph: use images.decode")
    return _opened(header, data, limits, tiling)


def _opened(header: Header, data: bytes, limits: Limits, tiling: Tiling) -> Photograph:
    limits.require(header)
    layout = _layout(header, tiling)
    pixels = layout.width * layout.height
    if pixels > limits.max_pixels:
        raise Unreadable(
            QuarantineReason.OVERSIZE,
            f"{header.width} x {header.height} becomes {layout.width} x {layout.height} at the "
            f"model's scale, {pixels} pixels; at most {limits.max_pixels} are inspected "
            "(files.max_pixels)",
        )
    _require_memory(header, _held(header, tiling) + _copied(data, header))
    _require_health(data, header)
    return Photograph(data, header, tiling)


def thumbnail(data: bytes, limits: Limits, longest_px: int) -> Pixels:
    """The picture, small and upright: uint8 (height, width, 3) BGR, contiguous.

    Its longer side has ``longest_px`` pixels, or its own if it has fewer; shrunk by area, while it
    is decoded where the format allows. Raises Unreadable as ``open_photograph`` does.
    """
    if longest_px < 1:
        raise ValueError(f"longest_px is {longest_px}; it must be at least 1")
    header = formats.read_header(data)
    limits.require(header)
    longest = max(header.width, header.height)
    reduced = 1
    if header.format == "JPEG":
        while reduced < 8 and longest // (2 * reduced) >= longest_px:
            reduced *= 2
    if header.format == "JPEG" and (reduced > 1 or not header.sequential):
        _require_memory(header, _whole_bytes(header, reduced))
        small = conversion.bgr(whole.decoded(data, header, reduced), header)
        small = conversion.turned(small, whole.left_to_turn(header))
    else:
        _require_memory(header, _held(header, Tiling()) + _copied(data, header))
        _require_health(data, header)
        rows, stored = _open(data, header)
        small = conversion.turned(
            _shrunk(rows, stored, longest // (2 * longest_px)), stored.orientation
        )
    width, height = _upright(header)
    longest_px = min(longest, longest_px)
    size = (
        max(1, round(width * longest_px / longest)),
        max(1, round(height * longest_px / longest)),
    )
    if size == small.shape[1::-1]:
        return np.ascontiguousarray(small)
    return cv2.resize(np.ascontiguousarray(small), size, interpolation=cv2.INTER_AREA).view(
        np.uint8
    )


def cost_bytes(data: bytes, limits: Limits, tiling: Tiling) -> int:
    """The most that a picture holds beside its file while it is decoded and cut; by its header.

    Of a photograph: decoder, rows, and two batches of tiles. Of a smaller picture: what ``decode``
    returns. What will be refused costs nothing. Raises Unreadable as ``check_complete`` does.
    """
    header = formats.read_header(data)
    if header.width * header.height > limits.max_pixels:
        return 0
    if not is_larger(header):
        return _TILE_BYTES
    if limits.larger == "resize":
        return _whole_bytes(header) + _TILE_BYTES
    held = _held(header, tiling) + _copied(data, header)
    return held if limits.larger == "tile" and held <= HELD_BYTES else 0


# ------------------------------------------------------------------------------------- geometry


def _upright(header: Header) -> tuple[int, int]:
    turned = header.orientation >= 5
    return (header.height, header.width) if turned else (header.width, header.height)


def _layout(header: Header, tiling: Tiling) -> Layout:
    width, height = (max(SIDE, round(side * tiling.factor)) for side in _upright(header))
    return lay_out(width, height, tiling.overlap)


def _box(numbers: NDArray[np.intp]) -> Box:
    x, y, width, height = (int(each) for each in numbers)
    return x, y, width, height


def _stored(box: Box, header: Header) -> Box:
    """Where a box of the upright picture lies in the stored one: undoes ``conversion.turned``."""
    x, y, width, height = box
    upright_width, upright_height = _upright(header)
    if header.orientation in (3, 4, 7, 8):
        y = upright_height - y - height
    if header.orientation in (2, 3, 6, 7):
        x = upright_width - x - width
    return (y, x, height, width) if header.orientation >= 5 else (x, y, width, height)


# ----------------------------------------------------------------------------------------- rows


def _open(data: bytes, header: Header) -> tuple[_Rows, Header]:
    if header.sequential:
        from crackwatch.images.strips import Strips  # libvips is loaded for photographs only

        return Strips(data, header), header
    picture = conversion.bgr(whole.decoded(data, header), header)
    picture = conversion.turned(picture, whole.left_to_turn(header))
    height, width = picture.shape[:2]
    return _Whole(picture), Header(header.format, width, height)


class _Whole:
    """The rows of a picture that is there already."""

    def __init__(self, picture: Pixels) -> None:
        self._picture = picture
        self._at = 0

    def read_into(self, rows: Pixels) -> None:
        rows[:] = self._picture[self._at : self._at + len(rows)]
        self._at += len(rows)


class _Band:
    """As many rows of a picture as its tallest box needs, moving down."""

    def __init__(self, rows: _Rows, header: Header, height: int) -> None:
        self._rows = rows
        self._kept = np.empty((height, header.width, 3), np.uint8)
        self._top = self._bottom = 0  # rows from top to bottom are kept

    def crop(self, box: Box) -> Pixels:
        """(height, width, 3), valid until the next call; boxes come ordered by their upper edge."""
        x, y, width, height = box
        if y + height > self._bottom:
            self._move_to(y, y + height)
        at = y - self._top
        return self._kept[at : at + height, x : x + width]

    def _move_to(self, top: int, bottom: int) -> None:
        held = self._bottom - top
        while held < 0:  # rows that no box wants
            skipped = min(-held, len(self._kept))
            self._rows.read_into(self._kept[:skipped])
            held += skipped
        if held > 0:
            self._kept[:held] = self._kept[top - self._top : self._bottom - self._top].copy()
        self._rows.read_into(self._kept[max(held, 0) : bottom - top])
        self._top, self._bottom = top, bottom


def _shrunk(rows: _Rows, header: Header, factor: int) -> Pixels:
    """All rows, each ``factor`` x ``factor`` pixels averaged to one; the rest at the rims as well."""
    factor = max(1, factor)
    step = factor * max(1, _THUMBNAIL_ROWS // factor)
    width, height = -(-header.width // factor), -(-header.height // factor)
    small = np.empty((height, width, 3), np.uint8)
    for top in range(0, header.height, step):
        part = np.empty((min(step, header.height - top), header.width, 3), np.uint8)
        rows.read_into(part)
        whole_rows, whole_columns = -(-len(part) // factor), width
        padded = cv2.copyMakeBorder(
            part,
            0,
            whole_rows * factor - len(part),
            0,
            whole_columns * factor - header.width,
            cv2.BORDER_REPLICATE,
        )
        at = top // factor
        small[at : at + whole_rows] = cv2.resize(
            padded, (whole_columns, whole_rows), interpolation=cv2.INTER_AREA
        )
    return small


# --------------------------------------------------------------------------------------- limits


def _require_health(data: bytes, header: Header) -> None:
    """Raises Unreadable where a decoder complains of a JPEG's data.

    libvips does not pass on all that libjpeg says, and refuses what cheap cameras do. So the data
    are read once more, at an eighth of the size, by the decoder that ``images.decode`` listens to.
    """
    if header.format == "JPEG" and header.sequential:
        whole.decoded(data, header, reduced=8)


def _require_memory(header: Header, held: int) -> None:
    """Raises Unreadable (OVERSIZE) where decoding would hold more than HELD_BYTES."""
    if held <= HELD_BYTES:
        return
    pixels = header.width * header.height
    why = "its rows are too long" if header.sequential else "it cannot be decoded row by row"
    raise Unreadable(
        QuarantineReason.OVERSIZE,
        f"{header.format} of {header.width} x {header.height}: {why}, and to decode it takes "
        f"{held >> 20} MiB; at most {HELD_BYTES >> 20} MiB are used, enough for about "
        f"{pixels * HELD_BYTES // held} pixels of its kind",
    )


def _held(header: Header, tiling: Tiling) -> int:
    """The most bytes that ``open_photograph`` and ``tiles`` hold beside the file."""
    if not header.sequential:
        # OpenCV's picture, turned upright; its rows are copied as a strip's would be
        rows_width, rows_height = _upright(header)
        decoder = _whole_bytes(header)
    else:
        rows_width, rows_height = header.width, header.height
        row = rows_width * header.channels * header.sample_bytes
        decoder = row * (min(rows_height, _STRIP_ROWS) + header.rows_at_once)
        # the look at a JPEG's health is over before the rows are read, and takes less
    layout = _layout(header, tiling)
    sideways = header.sequential and header.orientation >= 5
    scaled_height = layout.width if sideways else layout.height
    tall = min(rows_height, -(-SIDE * rows_height // scaled_height) + 1)
    tiles = 2 * min(len(layout), BATCH_TILES) * _TILE_BYTES
    return _FIXED_BYTES + decoder + 2 * tall * rows_width * 3 + tiles


def _copied(data: bytes, header: Header) -> int:
    """What libvips is given instead of the file where EXIF has to be left out of it; bytes."""
    return len(data) if header.sequential and header.exif else 0


def _whole_bytes(header: Header, reduced: int = 1) -> int:
    """What OpenCV holds at most: a picture twice, or once beside what it is made from or becomes."""
    pixels = header.width * header.height
    small = pixels // reduced**2
    colour = header.format in ("JPEG", "BMP")
    decoded = small * (
        3
        if colour
        else _OPENCV_CHANNELS.get(header.channels, header.channels) * header.sample_bytes
    )
    beside = 0 if colour else 3 * small
    if header.coefficients:
        beside = round(pixels * header.coefficients * 2)
    elif header.format in ("TIFF", "WebP"):
        beside = max(beside, pixels * 4)  # a strip of RGBA, which may be all of it; planes
    return decoded + max(decoded, beside)
