"""The five fields of a segment's annotation, and how to read them from a model's answer."""

from __future__ import annotations

import json
import re
import unicodedata
from contextlib import suppress
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from action100m.schema import NO_ACTION, NO_ACTION_SPELLINGS

_NOTHING = re.compile(rf"\W*(?:{NO_ACTION_SPELLINGS})\W*", re.IGNORECASE)
_OBJECT = re.compile(r'\{\s*["}]')  # where a JSON object may begin
_MOST_OBJECTS = 100  # that are tried, as each may take as long as the answer
_MOST_CHARACTERS = 4000  # of a field; longer text means that a model does not stop


class UnusableAnswerError(ValueError):
    """The answer holds no annotation; the message is written for the model that answered."""


def _tidy(text: str) -> str:
    """Return one line without control characters, surrogates and spaces at its ends."""
    shown = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") else c for c in text)
    return " ".join(shown.split())


def _said(text: str) -> str:
    text = _tidy(text)
    if not text:
        raise ValueError("it is empty")
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"it is longer than {_MOST_CHARACTERS} characters")
    return text


def _done(text: str) -> str:
    """Return the text; any spelling of "no action" becomes the published one."""
    return NO_ACTION if _NOTHING.fullmatch(_tidy(text)) else _said(text)


Said = Annotated[str, AfterValidator(_said)]
Done = Annotated[str, AfterValidator(_done)]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, value: Any) -> Any:
        """Unwrap an object that is written as a string or is alone in a list."""
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, str):
            try:
                return json.loads(value)
            except (ValueError, RecursionError):
                return value
        return value


class Summary(_Fields):
    """What the segment shows.

    Attributes:
        brief: one sentence.
        detailed: a paragraph.
    """

    brief: Said
    detailed: Said


class Action(_Fields):
    """What is done in the segment; "N/A" if nothing is.

    Attributes:
        brief: a verb phrase of a few words.
        detailed: one imperative sentence.
        actor: a noun phrase.
    """

    brief: Done
    detailed: Done
    actor: Done

    @model_validator(mode="after")
    def _agree(self) -> Action:
        """Set `detailed` to "N/A" if `brief` is: what is not done has no details."""
        if self.brief == NO_ACTION and self.detailed != NO_ACTION:
            return self.model_copy(update={"detailed": NO_ACTION})
        return self


class Annotation(_Fields):
    """The published `gpt` field of a node."""

    summary: Summary
    action: Action


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_STRING = {"type": "string"}
JSON_SCHEMA = _object(
    summary=_object(brief=_STRING, detailed=_STRING),
    action=_object(brief=_STRING, detailed=_STRING, actor=_STRING),
)
"""Schema that engines must follow. Strings have no length limits, which make grammars fail."""


def read_annotation(answer: str) -> Annotation:
    """Read the last annotation in an answer.

    Code fences, text around it and extra keys are ignored; the whole answer may be a JSON string.

    Raises:
        UnusableAnswerError: the answer holds no valid annotation; the message says why.
    """
    answer = _unquoted(answer)
    starts = [begin.start() for begin in _OBJECT.finditer(answer)][-_MOST_OBJECTS:]
    read: Annotation | str = "It holds no JSON object."
    end = 0  # of what was read
    for start in starts:
        if start < end and isinstance(read, Annotation):
            continue
        found, stop = _annotation_at(answer, start)
        # What is wrong with an object says more than what is wrong with those inside it.
        if isinstance(found, Annotation) or (isinstance(read, str) and start >= end):
            read, end = found, stop
    if isinstance(read, str):
        raise UnusableAnswerError(read)
    return read


def _unquoted(answer: str) -> str:
    if answer.lstrip().startswith('"'):
        with suppress(ValueError):
            return str(json.loads(answer, strict=False))
    return answer


def _annotation_at(answer: str, start: int) -> tuple[Annotation | str, int]:
    """Return the annotation that begins there, or what is wrong with it, and where it ends."""
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(answer, start)
    except (ValueError, RecursionError) as error:
        return f"It is not valid JSON: {error}.", getattr(error, "pos", len(answer))
    try:
        return Annotation.model_validate(value), end
    except ValidationError as error:
        complaints = [
            f"{'.'.join(map(str, each['loc'])) or 'the answer'}: {each['msg']}"
            for each in error.errors()
        ]
        return "; ".join(complaints) + ".", end
