"""Who decides or says something, and the words they add: checked before they are kept anywhere."""

from __future__ import annotations

from crackwatch.errors import UsageError

LONGEST_NAME = 200  # characters of who
LONGEST_NOTE = 2_000  # characters


def checked_name(by: str) -> str:
    """Who, without blanks around it. Raises UsageError for what is no name."""
    name = " ".join(by.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise UsageError(
            f"{by[:50]!r}: is not the name of a person",
            f"Give 1 to {LONGEST_NAME} characters without control characters.",
        )
    return name


def checked_note(note: str | None) -> str | None:
    """The note without blanks around it; None for an empty one. Raises UsageError if too long."""
    text = (note or "").strip()
    if len(text) > LONGEST_NOTE:
        raise UsageError(
            f"the note has {len(text):,} characters", f"At most {LONGEST_NOTE:,} are kept."
        )
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise UsageError("the note is not text", "Write it in UTF-8.") from exc
    return text or None
