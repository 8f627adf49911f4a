"""Make untrusted text safe to display, and format numbers for people."""

from __future__ import annotations

import unicodedata

_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f" + "".join(map(chr, range(0x202A, 0x202F)))) | {
    chr(code) for code in range(0x2066, 0x206A)
}
_JOINERS = "\u200c\u200d"  # of Persian and Indic letters, and of emoji


def shows(character: str) -> bool:
    """Return whether a terminal only displays this character, and does not act on it."""
    return (
        character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"
    )


def harmless(text: str) -> str:
    """Return text for a terminal, which a file name must not control: escape what is not shown."""
    return "".join(c if shows(c) else c.encode("unicode_escape").decode() for c in text)


def clean(text: str, limit: int) -> str:
    """Return one line of at most `limit` characters, encodable and without bidi controls."""
    shown = "".join(_visible(c) for c in text[: limit + 1]).strip()
    return shown if len(text) <= limit else shown[: limit - 1].rstrip() + "…"


def markdown(text: str, limit: int = 500) -> str:
    """Return one line that stays plain text in Markdown and in the HTML made from it."""
    escaped = "".join(f"\\{c}" if c in "\\`*_{}[]()#+-.!|~>" else c for c in clean(text, limit))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def _visible(character: str) -> str:
    if character in _BIDI_CONTROLS:
        return ""
    category = unicodedata.category(character)
    if category == "Cs":
        return "\ufffd"
    return " " if category in ("Cc", "Zl", "Zp") else character


def clock(seconds: float) -> str:
    """Format a time as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def lasting(seconds: float) -> str:
    """Format a duration: "0.8 s", "12 s", "3:05"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 59.5 else clock(seconds)


def counted(count: int, noun: str) -> str:
    """Format a count with its noun: "1 leaf", "1,204 videos"."""
    plural = {"leaf": "leaves"}.get(noun, noun + "s")
    return f"{count:,} {noun if count == 1 else plural}"


def first_line(error: BaseException | str) -> str:
    """Return the first line of an error message, as a sentence."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".") + "."
