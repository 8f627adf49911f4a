"""In which order a video's conversations go on, so that each finds its prefix in the cache."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable

from action100m.aggregation.refine import Conversation
from action100m.inference.answers import Answer


class Schedule:
    """Which conversation to go on with next.

    A draft is asked for once the draft whose prompt its own begins with has been answered: no
    sooner is that one surely in the model's cache. What has begun goes on before anything else
    begins, and what was just set free before what has been free for longer: their prefixes are
    the freshest.
    """

    def __init__(self, talks: Iterable[Conversation]) -> None:
        """`talks`: of one video, in the order in which to ask."""
        self._begun: deque[Conversation] = deque()
        self._drafts: deque[Conversation] = deque()
        self._waiting: dict[int, list[Conversation]] = defaultdict(list)
        for talk in talks:
            if talk.prompt.after is None:
                self._drafts.append(talk)
            else:
                self._waiting[talk.prompt.after].append(talk)

    def pop(self) -> Conversation | None:
        """The one to ask for now; None: there is nothing to ask until an answer is taken."""
        for queue in (self._begun, self._drafts):
            if queue:
                return queue.popleft()
        return None

    def take(self, talk: Conversation, answer: Answer) -> None:
        """Hear what a popped one was answered."""
        talk.take(answer)
        if not talk.over:
            self._begun.append(talk)
        freed = self._waiting.pop(talk.prompt.node, [])
        self._drafts.extendleft(reversed(freed))
