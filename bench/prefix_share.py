"""Measure how much of stage 3's prompts a prefix cache already holds: draft and three rounds.

The trees are synthetic, with the published statistics; tokens are words and punctuation marks, in
blocks of 16. `ours` is the share of all prompt tokens that repeat a prefix sent before, with one
request at a time and an unlimited cache; the limit is 0.80. `rival` is the layout that names the
segment in the first line. Also printed: the drafts alone, and 64 requests in flight in the stage's
own order, where a prefix can be reused once its prefill has ended, with a cache of a million tokens
that evicts the least recently used.
"""

from __future__ import annotations

import heapq
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from action100m.aggregation.prompts import Captioned, write_prompts
from action100m.aggregation.refine import Conversation
from action100m.aggregation.schedule import Schedule
from action100m.aggregation.stage import annotated_nodes
from action100m.config import AggregationConfig
from action100m.inference import Outcome, Request, Usage
from action100m.inference.answers import Answer
from captioned import Writer, draw_videos
from harness import finish, parse_arguments, print_table

_BLOCK = 16
_IN_FLIGHT = 64
_CACHE = 10**6
_PREFILL, _DECODE = 1e-5, 0.02  # seconds per token: of new prompt tokens and of answer tokens
_TOKEN = re.compile(r"\w+|[^\w\s]")
_MODEL = {"engine": "openai", "model": "stand-in", "urls": ["http://localhost:1/v1"]}


@dataclass
class Tally:
    """Prompt tokens, and how many of them were in the cache."""

    tokens: int = 0
    cached: int = 0
    drafts: int = 0
    drafts_cached: int = 0
    nodes: int = 0

    def add(self, tokens: int, cached: int, *, draft: bool) -> None:
        self.tokens += tokens
        self.cached += cached
        if draft:
            self.drafts += tokens
            self.drafts_cached += cached
            self.nodes += 1

    @property
    def row(self) -> list[object]:
        fresh = (self.tokens - self.cached) / self.nodes
        share = self.cached / self.tokens
        return [share, self.drafts_cached / self.drafts, fresh, self.drafts / self.nodes]


@dataclass
class Cache:
    """Blocks of prefixes; evicts the least recently used."""

    capacity: int
    blocks: OrderedDict[int, None] = field(default_factory=OrderedDict)

    def hit(self, prefixes: Sequence[int]) -> int:
        """Return how many leading blocks are in the cache."""
        for count, prefix in enumerate(prefixes):
            if prefix not in self.blocks:
                return count
            self.blocks.move_to_end(prefix)
        return len(prefixes)

    def add(self, prefixes: Sequence[int]) -> None:
        for prefix in prefixes:
            self.blocks[prefix] = None
            self.blocks.move_to_end(prefix)
        while len(self.blocks) * _BLOCK > self.capacity:
            self.blocks.popitem(last=False)


def main() -> None:
    """Measure and print."""
    videos = list(draw_videos(20 if parse_arguments(__doc__).full else 4))
    ours = one_by_one(videos, as_it_is)
    naive = one_by_one(videos, named_first)
    flight = InFlight(videos)
    flight.run()
    flying = flight.tally
    print_table(
        ["layout", "all", "drafts", "fresh tokens a node", "tokens of a draft"],
        [
            ["action100m", *ours.row],
            ["segment in the first line", *naive.row],
            ["action100m, 64 in flight", *flying.row],
        ],
    )
    fresh = [(tally.tokens - tally.cached) / tally.nodes for tally in (ours, naive)]
    print(f"{flight.occupancy:.0%} of the 64 places in flight are taken, from first to last")
    print(f"{ours.nodes} segments of {len(videos)} videos; tokens are words and punctuation marks")
    finish(
        "prefix_share",
        ours=ours.cached / ours.tokens,
        rival=naive.cached / naive.tokens,
        ratio=(ours.cached / ours.tokens) / (naive.cached / naive.tokens),
        unit="share of prompt tokens",
        limit=0.80,
        drafts=ours.drafts_cached / ours.drafts,
        fresh_to_naive=fresh[0] / fresh[1],
        in_flight=flying.cached / flying.tokens,
        in_flight_drafts=flying.drafts_cached / flying.drafts,
        occupancy=flight.occupancy,
        tokens_to_naive=ours.tokens / naive.tokens,
        tokenizer="words and punctuation marks",
    )


def as_it_is(texts: list[str]) -> list[str]:
    """Return the layout that stage 3 sends."""
    return texts


def named_first(texts: list[str]) -> list[str]:
    """Return the same text with the task before everything else."""
    system, user, *rest = texts
    told, _, task = user.rpartition("\n")
    return [f"{task}\n{system}", told, *rest]


def count(texts: Sequence[str]) -> list[int]:
    return [len(_TOKEN.findall(text)) for text in texts]


def conversations(videos: list[Captioned]) -> Iterator[list[Conversation]]:
    """Yield each video's conversations, in the order in which stage 3 starts them."""
    config = AggregationConfig.model_validate({"model": _MODEL})
    for number, video in enumerate(videos):
        prompts = write_prompts(video, annotated_nodes(video.tree), count, 120_000)
        yield [Conversation(prompt, config, {}, str(number)) for prompt in prompts]


def prefixes_of(
    request: Request, layout: Callable[[list[str]], list[str]]
) -> tuple[int, list[int]]:
    """Return the number of tokens, and a hash of each whole block together with all before it."""
    texts = [part.text for message in request.messages for part in message.parts]  # type: ignore[union-attr]
    tokens = [token for text in layout(texts) for token in ("<turn>", *_TOKEN.findall(text))]
    prefixes, before = [], 0
    for start in range(0, len(tokens) - _BLOCK + 1, _BLOCK):
        before = hash((before, *tokens[start : start + _BLOCK]))
        prefixes.append(before)
    return len(tokens), prefixes


def one_by_one(videos: list[Captioned], layout: Callable[[list[str]], list[str]]) -> Tally:
    """Simulate one request after the other, with an unlimited cache."""
    tally, cache, writer = Tally(), Cache(10**12), Writer(1)
    for talk in (talk for talks in conversations(videos) for talk in talks):
        draft = True
        while not talk.over:
            request = talk.next_request()
            tokens, prefixes = prefixes_of(request, layout)
            tally.add(tokens, _BLOCK * cache.hit(prefixes), draft=draft)
            cache.add(prefixes)
            talk.take(answer(request, writer))
            draft = False
    return tally


class InFlight:
    """Simulates 64 concurrent requests, taken from the videos' schedules in turns."""

    def __init__(self, videos: list[Captioned]) -> None:
        self.tally = Tally()
        self.busy = 0.0  # seconds, summed over slots
        self.now = 0.0
        self._cache, self._writer = Cache(_CACHE), Writer(1)
        self._videos = deque(Schedule(talks) for talks in conversations(videos))
        self._begun: set[Conversation] = set()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._free, self._number = _IN_FLIGHT, 0

    def run(self) -> None:
        """Run until every request is answered."""
        while True:
            while self._free and (found := self._pop()) is not None:
                self._ask(*found)
            if not self._events:
                return
            self.now, _, happen = heapq.heappop(self._events)
            happen()

    @property
    def occupancy(self) -> float:
        """The share of slot time that is busy."""
        return self.busy / (_IN_FLIGHT * self.now)

    def _pop(self) -> tuple[Schedule, Conversation] | None:
        for _ in range(len(self._videos)):
            video = self._videos[0]
            self._videos.rotate(-1)
            if (talk := video.pop()) is not None:
                return video, talk
        return None

    def _ask(self, video: Schedule, talk: Conversation) -> None:
        request = talk.next_request()
        tokens, prefixes = prefixes_of(request, as_it_is)
        hit = _BLOCK * self._cache.hit(prefixes)
        self.tally.add(tokens, hit, draft=talk not in self._begun)
        self._begun.add(talk)
        said = answer(request, self._writer)
        filled = _PREFILL * (tokens - hit)
        done = filled + _DECODE * count([said.text or ""])[0]
        self._free, self.busy = self._free - 1, self.busy + done

        def end() -> None:
            self._free += 1
            video.take(talk, said)

        self._at(filled, lambda: self._cache.add(prefixes))
        self._at(done, end)

    def _at(self, seconds: float, happen: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now + seconds, self._number, happen))


def answer(request: Request, writer: Writer) -> Answer:
    """Return a valid answer with the published mean lengths."""
    return Answer(request.id, Outcome.COMPLETE, writer.annotation(), "", Usage())


if __name__ == "__main__":
    main()
