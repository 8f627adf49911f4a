"""Stage 2: from a video and its tree to the captions of its segments."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from action100m.captioning.frames import Budget, Want, gather
from action100m.captioning.questions import Captioner, Question, ask_about, show
from action100m.config import CaptionerConfig, Config
from action100m.errors import VideoError
from action100m.inference import Feed, identity, open_engine
from action100m.inference.answers import Answer, Journal, to_table
from action100m.inference.asking import Asking
from action100m.tree import Tree
from action100m.video import DecoderPool, FrameSpec, Progress

_VERSION = 1  # of everything here that determines the contents of a part


class CaptionsMissingError(VideoError):
    """Too many captions of a video are missing."""


def caption_identity(config: Config) -> dict[str, Any]:
    """Return what determines the captions of a given tree, as plain values.

    Raises:
        ConfigError: a checkpoint is not available.
    """
    prompts = {"prompt", "action_prompt"}
    return {
        **_pictures_identity(config),
        **{
            role: {**_asker_identity(asker), **asker.model_dump(include=prompts)}
            for role, asker in _askers(config).items()
        },
    }


@contextmanager
def open_captioners(config: Config, decoders: DecoderPool) -> Iterator[VideoCaptioner]:
    """Load the configured models; a model that both captioners share is loaded once.

    Raises:
        ConfigError: a model, or something that it needs, is not available.
    """
    with ExitStack() as opened:
        feeds: dict[str, Feed] = {}
        for asker in _askers(config).values():
            name = asker.model.model_dump_json()
            if name not in feeds:
                engine = open_engine(asker.model, pictures=config.captioning.frames)
                feeds[name] = Feed(opened.enter_context(engine))
        yield VideoCaptioner(
            config,
            {role: feeds[asker.model.model_dump_json()] for role, asker in _askers(config).items()},
            decoders,
        )


class VideoCaptioner:
    """Captions videos; any number of threads may share one."""

    def __init__(
        self, config: Config, feeds: Mapping[Captioner, Feed], decoders: DecoderPool
    ) -> None:
        """`feeds`: one for each captioner of the configuration."""
        self._config = config
        self._feeds = feeds
        self._decoders = decoders
        self._budget = Budget(int(config.captioning.memory_gib * 2**30))
        self._spec = FrameSpec(
            config.video.stride, config.captioning.side, config.captioning.aspect
        )
        self._identity = {
            role: {**_pictures_identity(config), **_asker_identity(asker)}
            for role, asker in _askers(config).items()
        }

    @property
    def capacity(self) -> int:
        """Number of unanswered requests that keeps all models busy."""
        return sum(feed.engine.capacity for feed in set(self._feeds.values()))

    def caption(
        self,
        path: Path,
        tree: Tree,
        times: NDArray[np.float64],
        progress: Progress,
        journal: Path,
        known: Mapping[str, Answer],
    ) -> pa.Table:
        """Caption one video's segments.

        Args:
            path: the video file.
            tree: its segments.
            times: (n,) seconds, the presentation times of the sampled frames.
            progress: called regularly; may raise to abort.
            journal: folder of this video, where answers are kept until its part exists.
            known: answers from other configurations, by key.

        Returns:
            A table of `inference.answers.SCHEMA` with a row for every question.

        Raises:
            VideoError: the file cannot be read or has changed, or too many captions are missing.
            EngineStoppedError: a model can no longer answer.
        """
        questions = ask_about(tree, times, self._config.captioning, self._identity)
        attempts = self._config.captioning.attempts
        with Journal(journal) as kept, Asking(kept, known, attempts) as asking:
            unknown = [question for question in questions if question.key not in asking.answers]
            if unknown:
                self._ask(path, times, unknown, asking, progress, journal)
            answers = [(q.field, q.node, asking.answers[q.key]) for q in questions]
        progress(float(times[-1]), float(times[-1]))
        self._check_share([answer for _, _, answer in answers])
        return to_table(answers)

    def _ask(
        self,
        path: Path,
        times: NDArray[np.float64],
        questions: list[Question],
        asking: Asking,
        progress: Progress,
        spill: Path,
    ) -> None:
        """Ask every question as soon as its frames are read, then wait for the last answers."""
        whole, count = float(times[-1]), len({question.key for question in questions})

        def check() -> None:
            progress(whole * asking.settled / count, whole)

        by_frames = defaultdict(list)
        for question in questions:
            by_frames[question.frames.tobytes()].append(question)
        wants = [Want(key, group[0].frames) for key, group in by_frames.items()]
        with self._decoders.borrow(check) as decoder:
            stream = decoder.open(path, self._spec)
            with closing(gather(stream, times, wants, self._budget, spill)) as gathered:
                for want, frames in gathered:
                    check()
                    for question in by_frames[want.key]:
                        self._submit(path, question, frames, times, asking, check)
                    del frames
                    # Frames that are still in memory belong to pending requests. Wait for our own
                    # only: if all videos waited for each other, none would continue.
                    while self._budget.exceeded and asking.busy:
                        asking.wait(check)
        asking.finish(check)

    def _submit(
        self,
        path: Path,
        question: Question,
        frames: list[NDArray[np.uint8]],
        times: NDArray[np.float64],
        asking: Asking,
        check: Callable[[], None],
    ) -> None:
        asker = _askers(self._config)[question.captioner]
        moments = times[question.frames]
        shown = show(question.captioner, frames, (moments - moments[0]).tolist())
        request = question.request(shown, asker, group=f"{path}:{question.node}")
        asking.ask(question.key, self._feeds[question.captioner], request, check)

    def _check_share(self, answers: list[Answer]) -> None:
        missing = [answer for answer in answers if answer.text is None]
        most = self._config.captioning.max_failed
        if len(missing) > most * len(answers):
            reason, count = Counter(answer.reason for answer in missing).most_common(1)[0]
            raise CaptionsMissingError(
                f"{len(missing)} of {len(answers)} captions are missing (more than "
                f"captioning.max_failed = {most:g} of them allows); {count} because: "
                f"{reason.rstrip('.')}. Correct the cause and run again, or raise that limit."
            )


def _askers(config: Config) -> dict[Captioner, CaptionerConfig]:
    captioning = config.captioning
    askers: dict[Captioner, CaptionerConfig | None] = {
        "segments": captioning.segments,
        "leaves": captioning.leaves,
    }
    return {role: asker for role, asker in askers.items() if asker is not None}


def _pictures_identity(config: Config) -> dict[str, Any]:
    captioning = config.captioning
    return {
        "version": _VERSION,
        "decoder": config.video.decoder,
        **captioning.model_dump(include={"frames", "side", "aspect"}),
    }


def _asker_identity(asker: CaptionerConfig) -> dict[str, Any]:
    """Return the model and its sampling, without the prompts, which are part of each question."""
    sampling = asker.model_dump(include={"max_tokens", "temperature", "seed"})
    return {**identity(asker.model), **sampling}
