"""Words and quoted phrases of a query, and the texts that contain all of them."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from action100m.dataset.columns import mask

_PART = r"[\p{L}\p{M}\p{N}_]"  # of a word
_BETWEEN = r"[^\p{L}\p{M}\p{N}_]"
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_TOKEN = re.compile(r'"([^"]*)"|([^\s"]+)')


class Words:
    """What a text must contain: whole words in any order, and phrases of consecutive words.

    Case, width and composition of characters are ignored (NFKC, case folded). In scripts without
    spaces between words, any part of a text may match.

    Attributes:
        query: the query as given.
    """

    def __init__(self, query: str) -> None:
        """Parse the words, and the phrases in double quotes.

        Raises:
            ValueError: the query has no word, or a phrase is too long to search for.
        """
        self.query = query
        found = [quoted or plain for quoted, plain in _TOKEN.findall(query)]
        phrases = [_split(fold(token)) for token in found]
        self._phrases = [phrase for phrase in phrases if phrase]
        if not self._phrases:
            raise ValueError(f"There is no word in the query {query!r}.")
        try:
            self._with_phrases(pa.array([""]))
        except pa.ArrowInvalid as error:
            raise ValueError("A phrase of the query is too long to look for.") from error
        words = {word for phrase in self._phrases for word in phrase}
        self._longest_first = sorted(words, key=lambda word: (-len(word), word))

    def within(self, texts: pa.StringArray) -> NDArray[np.int64]:
        """Return the positions of the texts that contain them all, in order; null never does."""
        candidates = [
            (place, folded)
            for place, text in enumerate(texts.to_pylist())
            if text is not None and self._may_hold(folded := fold(text))
        ]
        places = np.array([place for place, _ in candidates], np.int64)
        return places[self._with_phrases(pa.array([text for _, text in candidates], pa.string()))]

    def _with_phrases(self, folded: pa.StringArray) -> NDArray[np.int64]:
        places = pa.array(np.arange(len(folded)))
        for phrase in self._phrases:
            there = pc.match_substring_regex(folded, _pattern(phrase))
            folded, places = folded.filter(there), places.filter(there)
        return np.asarray(places.to_numpy(), np.int64)

    def _may_hold(self, folded: str) -> bool:
        return all(word in folded for word in self._longest_first)

    def first_in(self, text: str) -> int:
        """Return approximately where the first of the words is in a text; 0 if unknown."""
        lowered = text.lower()
        return max(0, min(lowered.find(word) for word in self._phrases[0]))


def fold(text: str) -> str:
    """Return the text without the differences that the search ignores."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded)


def _split(text: str) -> list[str]:
    parts = pc.split_pattern_regex(pa.array([text]), f"{_BETWEEN}+")[0].as_py()
    return [part for part in parts if part]


def _pattern(phrase: list[str]) -> str:
    body = f"{_BETWEEN}+".join(map(_literal, phrase))
    before = "" if _is_unspaced(phrase[0][0]) else f"(?:^|{_BETWEEN})"
    after = "" if _is_unspaced(phrase[-1][-1]) else f"(?:$|{_BETWEEN})"
    return before + body + after


def _literal(word: str) -> str:
    return rf"\Q{word}\E"


def _is_unspaced(character: str) -> bool:
    return bool(mask(pc.match_substring_regex(pa.array([character]), _UNSPACED))[0])
