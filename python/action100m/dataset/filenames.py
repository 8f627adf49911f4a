"""Uids and other untrusted words as the names of files."""

from __future__ import annotations

_ALWAYS_SAFE = "-_. !#$&'()+,;@[]^`{}~"
_LONGEST = 255  # bytes that file systems take


def file_name(text: str, ending: str = "", *, dots: bool = True) -> str:
    """A name that only this text has.

    What a file name may not hold is written as quoted-printable: "=" and two hexadecimal digits a
    byte, because FiftyOne rewrites "%".

    Args:
        text: may hold anything; `quopri.decodestring` gives it back.
        ending: is appended as it is, such as ".mp4".
        dots: let them stand in the text's own name; the first character is never one.

    Raises:
        ValueError: no file can have that name.
    """
    safe = _ALWAYS_SAFE if dots else _ALWAYS_SAFE.replace(".", "")
    name = "".join(c if c.isalnum() or c in safe else _quoted(c) for c in text) + ending
    if name.startswith("."):
        name = _quoted(".") + name[1:]  # it would be hidden, or a way up
    if not text or len(name.encode()) > _LONGEST:
        raise ValueError(f"No file can be named {text[:40]!r}: it is empty or too long.")
    return name


def _quoted(character: str) -> str:
    return "".join(f"={byte:02X}" for byte in character.encode())
