"""Order the requests of a video's conversations, so that each finds its prefix in the cache."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable

from action100m.aggregation.refine import Conversation
from action100m.inference.answers import Answer


class Schedule:
    """Chooses the conversation that continues next.

    A draft is requested once the draft whose prompt is the beginning of its own is answered: only
    then is that prefix certain to be in the model's cache. Conversations that have begun continue
    before others begin, and drafts that were just enabled come before earlier ones: their prefixes
    were used most recently.
    """

    def __init__(self, talks: Iterable[Conversation]) -> None:
        """`talks`: conversations of one video, in the order in which to ask."""
        self._begun: deque[Conversation] = deque()
        self._drafts: deque[Conversation] = deque()
        self._waiting: dict[int, list[Conversation]] = defaultdict(list)
        for talk in talks:
            if talk.prompt.after is None:
                self._drafts.append(talk)
            else:
                self._waiting[talk.prompt.after].append(talk)

    def pop(self) -> Conversation | None:
        """Return the conversation to ask now; None if an answer must be taken first."""
        for queue in (self._begun, self._drafts):
            if queue:
                return queue.popleft()
        return None

    def take(self, talk: Conversation, answer: Answer) -> None:
        """Take the answer to a conversation that was popped."""
        talk.take(answer)
        if not talk.over:
            self._begun.append(talk)
        freed = self._waiting.pop(talk.prompt.node, [])
        self._drafts.extendleft(reversed(freed))
