"""Normalise the spelling of brief actions, so that equal actions compare equal."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from action100m.dataset.columns import present
from action100m.schema import NO_ACTION_SPELLINGS

_SPACE = r"[\s\p{Z}\p{Cc}]+"
_AROUND = " .!?,;:\"'\u2018\u2019\u201c\u201d"
_NO_ACTION = f"^({NO_ACTION_SPELLINGS})?$"


def normalised(strings: pa.StringArray) -> pa.StringArray:
    """Return each action in its normalised spelling, (n,); null if the string names no action.

    Compatibility characters are replaced (NFKC), letters are lowercased, runs of white space become
    one space, and white space, quotation marks and punctuation (.!?,;:) are stripped from both
    ends; words are unchanged. Null, empty and any spelling of "N/A" become null. Normalising again
    changes nothing.

    Args:
        strings: (n,) strings such as `gpt.action.brief`.
    """
    encoded = strings.dictionary_encode()
    texts = pc.utf8_normalize(encoded.dictionary, form="NFKC")
    texts = pc.utf8_normalize(pc.utf8_lower(texts), form="NFKC")
    texts = pc.utf8_trim(pc.replace_substring_regex(texts, _SPACE, " "), characters=_AROUND)
    nothing = pc.match_substring_regex(texts, _NO_ACTION)
    return pc.if_else(nothing, pa.scalar(None, pa.string()), texts).take(encoded.indices)


def is_action(strings: pa.StringArray) -> NDArray[np.bool_]:
    """Return True for strings that name an action: not null, empty or a spelling of "N/A"; (n,)."""
    return present(normalised(strings))
