from __future__ import annotations

from action100m.report.causes import Causes, common_reason
from action100m.report.data import ReportedVideo
from action100m.runs.states import State


def failed(uid: str, reason: str) -> ReportedVideo:
    return ReportedVideo(uid, f"/videos/{uid}.mp4", State.FAILED, reason)


def test_reasons_that_differ_only_in_numbers_and_names_are_merged() -> None:
    causes = Causes()
    for uid, share in (("boat", 62), ("kite", 7.5)):
        causes.add(failed(uid, f"Only {share} % of '/videos/{uid}.mp4' could be decoded."))
    causes.add(failed("song", "No video stream: only audio."))
    first, second = causes.largest(10)
    assert (first.reason, first.count) == ("Only … % of … could be decoded.", 2)
    assert first.examples == ["boat", "kite"]
    assert (second.reason, second.count) == ("No video stream: only audio.", 1)


def test_the_number_of_causes_is_bounded() -> None:
    causes = Causes(limit=3)
    for name in "aabcdefghhh":
        causes.add(failed(name * 5, f"The {name * 4} broke."))
    largest = causes.largest(5)
    assert [(cause.reason, cause.count) for cause in largest] == [
        ("The hhhh broke.", 3),
        ("The aaaa broke.", 2),
        ("The gggg broke.", 1),
    ]
    assert (causes.rest(5), causes.rest(1)) == (5, 8)


def test_a_missing_reason_is_reported_as_missing() -> None:
    assert common_reason(failed("boat", "")) == "No reason was recorded."
