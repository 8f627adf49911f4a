"""Turn uids and other untrusted text into file names."""

from __future__ import annotations

_ALWAYS_SAFE = "-_. !#$&'()+,;@[]^`{}~"
_LONGEST = 255  # bytes that file systems allow


def file_name(text: str, ending: str = "", *, dots: bool = True) -> str:
    """Return a file name that is unique to this text.

    Characters that a file name cannot contain are written as quoted-printable: "=" and two
    hexadecimal digits per byte, because FiftyOne rewrites "%".

    Args:
        text: any text; `quopri.decodestring` restores it.
        ending: appended unchanged, such as ".mp4".
        dots: keep dots of the text; the first character of the name is never a dot.

    Raises:
        ValueError: no file can have that name.
    """
    safe = _ALWAYS_SAFE if dots else _ALWAYS_SAFE.replace(".", "")
    name = "".join(c if c.isalnum() or c in safe else _quoted(c) for c in text) + ending
    if name.startswith("."):
        name = _quoted(".") + name[1:]  # it would be hidden, or name a parent folder
    if not text or len(name.encode()) > _LONGEST:
        raise ValueError(f"No file can be named {text[:40]!r}: it is empty or too long.")
    return name


def _quoted(character: str) -> str:
    return "".join(f"={byte:02X}" for byte in character.encode())
