"""File names, which are bytes, as a person or a script may read them; and the bytes back from that."""

from __future__ import annotations

import os
import re
import sys
import unicodedata

# Shown as themselves they would let a file name rewrite the line that it is printed in.
_ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Zl", "Zp"})

_ESCAPE = re.compile(rb"\\(?:\\|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))")


def path_text(path: bytes) -> str:
    r"""A file name as a person or a script may read it; ``path_bytes`` gives the bytes back.

    Bytes that are not UTF-8 and ASCII control characters become ``\xNN``, other control, format
    and bidirectional characters ``\uNNNN`` (``\UNNNNNNNN`` beyond the basic plane), and the
    backslash ``\\``. Everything else stands for itself.
    """
    text = path.decode("utf-8", "surrogateescape")
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text  # by far the usual name
    shown: list[str] = []
    for char in text:
        code = ord(char)
        if char == "\\":
            shown.append("\\\\")
        elif 0xDC80 <= code <= 0xDCFF:  # surrogateescape's stand-in for an undecodable byte
            shown.append(f"\\x{code - 0xDC00:02x}")
        elif unicodedata.category(char) in _ESCAPED_CATEGORIES:
            if code < 0x80:
                shown.append(f"\\x{code:02x}")
            else:
                shown.append(f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")
        else:
            shown.append(char)
    return "".join(shown)


def path_bytes(text: str) -> bytes:
    """The file name that ``path_text`` shows as ``text``.

    A backslash that begins no escape stands for itself, so that a name typed by hand is accepted.
    """

    def plain(match: re.Match[bytes]) -> bytes:
        byte, short, long = match.groups()
        if byte:
            return bytes([int(byte, 16)])
        if short or long:
            code = int(short or long, 16)
            if code > sys.maxunicode:
                return match.group()
            return chr(code).encode("utf-8", "surrogatepass")
        return b"\\"

    return _ESCAPE.sub(plain, os.fsencode(text))
