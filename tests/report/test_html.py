from __future__ import annotations

import json
import re
import shutil
import subprocess
import tracemalloc
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from action100m.report.data import ReportedVideo, RunSummary
from action100m.report.html import write_report
from action100m.runs.states import State
from action100m.segmentation.filmstrip import Thumbnail
from trees import random_tree

SUMMARY = RunSummary("/runs/tea", "2026-05-04 11:20", {"segment": {State.DONE: 3, State.FAILED: 1}})
HOSTILE = (
    "</script><script>alert(1)</script><img src=http://evil.example/x onerror='x'>\u202e\"&\ud800"
)
VOID = {"meta", "input", "link", "br", "img", "rect"}


class Page(HTMLParser):
    """What a browser finds in the file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.data: dict[str, list[Any]] = {
            "state-names": [],
            "palette": [],
            "rows": [],
            "detail": [],
        }
        self.scripts: list[str] = []
        self.text = ""
        self.feed(path.read_text("utf-8"))
        self.close()
        assert self.open == []
        self.states = [self.data["state-names"][0][row[0]] for row in self.data["rows"][0]]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["script"]:
            self.text += data
            return
        attributes = self.tags[-1][1]
        if attributes.get("type") == "application/json":
            name = attributes.get("id") or attributes.get("class")
            assert name is not None
            self.data[name].append(json.loads(data))
        else:
            self.scripts.append(data)


def done(uid: str, **more: Any) -> ReportedVideo:
    return ReportedVideo(uid, f"/videos/{uid}.mp4", State.DONE, tree=random_tree(90), **more)


def report(path: Path, videos: list[ReportedVideo], **bounds: int) -> Page:
    write_report(path, SUMMARY, iter(videos), **bounds)
    return Page(path)


def test_all_states_and_reasons_are_shown(tmp_path: Path) -> None:
    videos = [
        done("boat", title="A boat", duration=12.0, coverage=0.95, notes=["3 times repaired"])
    ]
    others = (State.STALE, State.PENDING, State.SKIPPED)
    videos += [ReportedVideo(f"{s.value}_one", "/v", s) for s in others]
    videos += [
        ReportedVideo("song", "/videos/song.mp4", State.FAILED, "No video stream: only audio.")
    ]
    page = report(tmp_path / "index.html", videos)
    (rows,) = page.data["rows"]
    assert page.states == ["failed", "stale", "pending", "skipped", "done"]
    assert "State." not in page.text
    assert "No video stream: only audio." in page.text
    assert rows[-1][1:8] == [
        "boat",
        "A boat",
        12.0,
        int(videos[0].tree.is_leaf.sum()),  # type: ignore[union-attr]
        videos[0].tree.depth,  # type: ignore[union-attr]
        0.95,
        "3 times repaired",
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["index.html"]


def test_trees_are_embedded_unchanged(tmp_path: Path) -> None:
    video = done("boat", thumbnails=lambda: [Thumbnail(1.5, b"jpeg")])
    assert video.tree is not None
    (detail,) = report(tmp_path / "index.html", [video]).data["detail"]
    np.testing.assert_allclose(np.array(detail["start"]) / 100, video.tree.start, atol=0.00501)
    np.testing.assert_allclose(np.array(detail["end"]) / 100, video.tree.end, atol=0.00501)
    assert detail["parent"] == video.tree.parent.tolist()
    assert detail["pictures"] == [[1.5, "anBlZw=="]]


def test_hostile_text_is_escaped(tmp_path: Path) -> None:
    config = "x = '</pre><script>alert(2)</script>'"
    summary = RunSummary(HOSTILE, HOSTILE, {HOSTILE: {State.DONE: 1}}, config)
    videos = [
        done(HOSTILE, title=HOSTILE * 20_000, notes=[HOSTILE]),
        ReportedVideo(HOSTILE, HOSTILE, State.FAILED, HOSTILE * 20_000),
    ]
    path = tmp_path / "index.html"
    write_report(path, summary, videos)
    page = Page(path)
    assert len(page.scripts) == 1
    assert "alert" not in page.scripts[0]
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert path.stat().st_size < 150_000


def test_nothing_is_fetched_from_the_network(tmp_path: Path) -> None:
    page = report(tmp_path / "index.html", [done("boat")])
    for _, attributes in page.tags:
        assert not {"src", "href", "srcset", "action", "data"} & set(attributes)
    assert not re.search(r"https?:|@import|url\(", (tmp_path / "index.html").read_text("utf-8"))


def many(n: int, picture: bytes) -> Iterator[ReportedVideo]:
    tree = random_tree(1200)
    for i in range(n):
        uid = f"video_{i:07}"
        if i % 20 == 7:
            yield ReportedVideo(uid, f"/v/{uid}.mp4", State.FAILED, f"Reason {uid} number {i}")
        else:
            yield ReportedVideo(
                uid,
                f"/a/rather/long/folder/name/{uid}.mp4",
                State.DONE,
                title=f"How to make tea, part {i}",
                duration=160.0,
                coverage=1.0,
                tree=tree,
                thumbnails=lambda: [Thumbnail(6.0 * k, picture) for k in range(24)],
            )


def test_a_run_of_ten_thousand_videos_makes_a_small_page(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    tracemalloc.start()
    write_report(path, SUMMARY, many(12_000, b"x" * 8000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    page = Page(path)
    (rows,) = page.data["rows"]
    assert len(rows) == 10_000
    assert page.states.count("failed") == 600
    assert "2,000 more videos are left out" in page.text
    assert len(page.data["detail"]) == 100
    assert all(detail["pictures"] for detail in page.data["detail"])
    assert path.stat().st_size < 15_000_000
    assert peak < 150_000_000


def test_thumbnails_are_made_only_for_trees_shown(tmp_path: Path) -> None:
    asked = []

    def pictures(uid: str) -> list[Thumbnail]:
        asked.append(uid)
        return []

    videos = [done(f"v{i}", thumbnails=lambda i=i: pictures(f"v{i}")) for i in range(9)]
    page = report(tmp_path / "index.html", videos, max_trees=4, max_rows=6)
    assert asked == ["v0", "v1", "v2", "v3"]
    assert [row[-1] for row in page.data["rows"][0]] == [0, 1, 2, 3, -1, -1]
    assert "those of the first 4 are on this page" in page.text


def test_a_failing_iterator_leaves_the_old_report(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text("old")

    def breaks() -> Iterator[ReportedVideo]:
        yield done("boat")
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="went away"):
        write_report(path, SUMMARY, breaks())
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["index.html"]


def test_an_empty_run_has_a_report(tmp_path: Path) -> None:
    page = report(tmp_path / "index.html", [])
    assert page.data["rows"] == [[]]


def test_a_browser_renders_the_page(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium is installed")
    path = tmp_path / "index.html"
    title = "<b>tea</b> & “boats”"
    report(
        path, [done("boat", title=title), ReportedVideo("song", "/v", State.FAILED, "It broke.")]
    )
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    dom = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, check=True)
    assert dom.stdout.count('<span class="dot failed">') == 3  # legend, filter, row
    assert '<h3 id="tree-title" dir="auto">&lt;b&gt;tea&lt;/b&gt; &amp; “boats”</h3>' in dom.stdout
