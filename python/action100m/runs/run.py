"""A run: find the videos, process those that are not done, export the dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console

from action100m.config import Config, changes
from action100m.dataset.swap import refuse_foreign
from action100m.dataset.write import SHARD_NAME
from action100m.device import release_memory
from action100m.errors import ConfigError, NothingToDoError, UsageError, as_run_stopped
from action100m.inference import EngineStoppedError, check_access, check_engine
from action100m.inference import pin as pin_model
from action100m.locks import locked
from action100m.processes import available_cpus
from action100m.runs.aggregate_stage import aggregate_stage_identity, open_aggregate_stage
from action100m.runs.caption_stage import caption_stage_identity, open_caption_stage
from action100m.runs.discovery import find_videos
from action100m.runs.executors.gpus import helpers, other_gpus
from action100m.runs.executors.local import run_stage, stopped
from action100m.runs.export import export_what_changed
from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.manifest import Manifest, Video
from action100m.runs.progress import StageProgress
from action100m.runs.segment_stage import SegmentStage, open_segment_stage
from action100m.runs.settings import Settings, read_config, stage_key, write_settings
from action100m.runs.stages import Stage
from action100m.runs.states import TO_DO, State, count_states, find_overall_states, find_states
from action100m.segmentation.encoders import pin
from action100m.text import counted, harmless
from action100m.trace import stage_span

_NOTHING = (
    "No video was found: give files, folders or globs that contain videos. Files in the run folder "
    "{0} are ignored."
)
_RESUME = " Without VIDEOS, `action100m run --out {0}` goes on with the videos that it knows."


@dataclass(frozen=True)
class RunResult:
    """Result of a run.

    Attributes:
        counts: number of videos in each state; a video is done if it is done in all stages.
        shards: the exported Parquet files.
    """

    counts: dict[State, int]
    shards: list[Path]

    @property
    def exit_code(self) -> int:
        """1 if no video is done, else 3 if some videos failed, else 0."""
        if not self.counts[State.DONE]:
            return 1
        # Another run added what is pending: it is processing it, or died and left it to the next.
        return 3 if self.counts[State.FAILED] else 0


@as_run_stopped()
def run(
    videos: str | Path | Iterable[str | Path],
    out: str | Path,
    config: Config | None = None,
    *,
    workers: int | None = None,
    console: Console | None = None,
) -> RunResult:
    """Turn videos into a dataset of segment trees; resume where an earlier run stopped.

    Args:
        videos: files, folders or globs; if empty, the videos the run folder already knows.
        out: the run folder, created if it does not exist.
        config: configuration; default: that of the run folder, else the built-in one.
        workers: number of videos to decode, and of processes that read sidecars or write shards;
            default: one per available CPU.
        console: where progress is printed; default: standard error.

    Raises:
        UsageError: an input matches nothing, or two files have the same uid.
        FileExistsError: RUN/data holds something other than a dataset.
        NothingToDoError: the inputs contain no video.
        ConfigError: the configuration cannot be read, or something it needs is not available.
        OSError: the run folder cannot be written.
        RunStoppedError: the run folder became unwritable or is damaged, an engine stopped, or no
            other process or thread can be started.
    """
    console = console or Console(stderr=True)
    work = _Run(RunFolder(Path(out)), workers or available_cpus(), console)
    paths = work.find([videos] if isinstance(videos, (str, Path)) else [*videos])
    refuse_foreign(work.folder.data, SHARD_NAME)  # not after hours of work
    earlier = _earlier(work.folder, needed=config is None)
    config = config or earlier or Config()
    _check_engines(config)
    settings, manifest = work.segment(paths, _pinned(config), earlier)
    release_memory()  # that of the encoder, which nothing refers to any more
    work.ask_models(settings, manifest)
    del manifest  # large, and read again below: other runs may have added to it
    shards = work.export(settings)
    counts = count_states(find_overall_states(work.folder, Manifest(work.folder), settings.keys))
    return RunResult(counts, shards)


@dataclass(frozen=True)
class _Run:
    """What all steps of a run need.

    Attributes:
        folder: the run folder.
        workers: number of videos to decode, or of processes, at once.
        console: where progress is printed.
    """

    folder: RunFolder
    workers: int
    console: Console

    def say(self, line: str) -> None:
        """Print a line."""
        self.console.print(
            harmless(line), highlight=False, markup=False, emoji=False, soft_wrap=True
        )

    def find(self, inputs: list[str | Path]) -> list[Path]:
        """Return the video files; [] only if there are no inputs and the run knows its videos."""

        def tell(left_out: Path) -> None:
            self.say(f"{left_out} contains output made from videos and is not searched.")

        root = self.folder.root
        for path in (root, *root.parents):
            if path.exists() and not path.is_dir():
                raise UsageError(f"{path} is a file: a run needs a folder.")
        paths = find_videos(inputs, leave_out=root, tell=tell)
        resumes = self.folder.manifest.is_dir()
        if not (inputs or resumes):
            raise NothingToDoError(f"{root} is no run yet: name the videos to make one of.")
        if inputs and not paths:
            raise NothingToDoError((_NOTHING + _RESUME * resumes).format(root))
        return paths

    def segment(
        self, paths: list[Path], config: Config, earlier: Config | None
    ) -> tuple[Settings, Manifest]:
        """Take the videos in, write run.toml, and run stage 1 on every GPU that it may use.

        Nothing is written before all that the run needs is known to be available.
        """
        with open_segment_stage(config, self.folder) as stage:
            settings = _settings(config, stage)
            if not self.folder.manifest.is_dir():  # before any file of a new run
                _check_access(settings, self.folder, Manifest(self.folder))
            manifest = self._take_in(paths, config, partial(self._begin, settings, earlier))
            self.folder.sweep()
            todo = self._to_do(stage.key, manifest, manifest.videos)
            gpus = other_gpus(config.segmentation) if todo else []
            share = max(1, self.workers // (1 + len(gpus)))
            with helpers(self.folder, gpus, share, self.console):
                self._process(stage.key, stage.loaded(), todo, share)
        return settings, manifest

    def _begin(self, settings: Settings, earlier: Config | None, manifest: Manifest) -> None:
        """Check, tell and write the settings: a run that is killed while it adds videos keeps them.

        `manifest`: the manifest as it will be.
        """
        _check_access(settings, self.folder, manifest)
        if earlier is not None:
            self._tell_changes(settings, earlier)
        write_settings(self.folder, settings)

    def _tell_changes(self, settings: Settings, earlier: Config) -> None:
        for change in changes(earlier, settings.config):
            self.say(f"Settings of {self.folder.root} change: {change}")
        keeps_rounds = settings.config.aggregation.keep_rounds
        if keeps_rounds > earlier.aggregation.keep_rounds and "aggregate" in settings.identities:
            done = len(self.folder.done_keys(settings.key("aggregate")))
            if done:  # asking again would cost as much as the first time
                self.say(
                    f"aggregate: {counted(done, 'video')} annotated before: rounds that were not "
                    "kept are not asked for again, and the report cannot show them."
                )

    def _take_in(
        self, paths: list[Path], config: Config, ready: Callable[[Manifest], None]
    ) -> Manifest:
        """Add the videos to the run's manifest; without any, look at those it knows again.

        `ready` is called with the manifest as it will be, before it is written.
        """
        root = self.folder.root
        root.mkdir(parents=True, exist_ok=True)
        waiting = f"Waiting for another run that reads the sidecars for {root}."
        # If runs start together, only one reads all.
        with locked(self.folder.manifest_lock, partial(self.say, waiting)):
            manifest = Manifest(self.folder)
            paths = paths or manifest.existing_files()
            if not (paths or manifest.videos):
                raise NothingToDoError(_NOTHING.format(root))
            problems = manifest.add(paths, config.metadata, self.workers, ready)
        for problem in problems:
            self.say(f"Sidecar: {problem}")
        return manifest

    def ask_models(self, settings: Settings, manifest: Manifest) -> None:
        """Run the stages that ask models, each on the videos that the previous stage has done."""
        openers: dict[str, Callable[[], AbstractContextManager[Stage]]] = {
            "caption": lambda: open_caption_stage(settings, self.folder, self.workers),
            "aggregate": lambda: open_aggregate_stage(settings, self.folder),
        }
        for before, key in pairwise(settings.keys):
            finished = self.folder.done_keys(before)
            ready = [video for video in manifest.videos if video.key in finished]
            todo = self._to_do(key, manifest, ready)
            self._process(key, openers[key.name](), todo, self.workers)
            release_memory()

    def export(self, settings: Settings) -> list[Path]:
        """Write the dataset if it changed; return its files, or [] if the settings changed."""
        root = self.folder.root
        waiting = f"Waiting for another run that exports the dataset of {root}."
        with stage_span("export"):
            shards = export_what_changed(
                self.folder, settings, self.workers, partial(self.say, waiting)
            )
        if shards is None:
            self.say(f"Another run changed the settings of {root} and exports the dataset.")
        return shards or []

    def _to_do(self, key: StageKey, manifest: Manifest, videos: list[Video]) -> list[Video]:
        states = find_states(self.folder, manifest, key)
        todo = [video for video in videos if states[video.uid] in TO_DO]
        skipped = [video for video in videos if states[video.uid] is State.SKIPPED]
        if done := len(videos) - len(todo) - len(skipped):
            self.say(f"{key.name}: {done} of {counted(len(videos), 'video')} left unchanged")
        elsewhere = self.folder.done_keys_elsewhere(key) if skipped else set()
        if lost := [video for video in skipped if video.key in elsewhere]:
            self.say(
                f"{key.name}: {counted(len(lost), 'video')} done with other settings cannot be "
                f"done again, as the file is gone (first: {lost[0].path})"
            )
        return todo

    def _process(
        self,
        key: StageKey,
        opened: AbstractContextManager[Stage],
        todo: list[Video],
        workers: int,
    ) -> None:
        """Process the videos; if there are none, no model is loaded."""
        if not todo:
            return
        try:
            with stage_span(key.name), opened as stage:
                sizes = {video.uid: video.size for video in todo}
                with StageProgress(key.name, sizes, self.console) as progress:
                    run_stage(stage, todo, self.folder, workers, progress)
        except EngineStoppedError as error:  # before the first video
            raise stopped(error) from error


def _earlier(folder: RunFolder, *, needed: bool) -> Config | None:
    """Return the run folder's configuration; None if it has none, or none that can be read."""
    try:
        return read_config(folder)
    except ConfigError:
        if needed:
            raise
        return None  # it is overwritten


def _settings(config: Config, stage: SegmentStage) -> Settings:
    """Return the settings, with the identity of every stage that has a model."""
    captions = caption_stage_identity(config, stage.key)
    key = stage_key("caption", captions) if captions else None
    identities = {
        "segment": stage.identity,
        "caption": captions,
        "aggregate": aggregate_stage_identity(config, key),
    }
    return Settings(config, {name: values for name, values in identities.items() if values})


def _check_engines(config: Config) -> None:
    """Report what the engines lack before hours of work, not after."""
    for captioner in (config.captioning.segments, config.captioning.leaves):
        if captioner is not None:
            check_engine(captioner.model, annotates=False)
    if config.aggregation.model is not None:
        check_engine(config.aggregation.model, annotates=True)


def _check_access(settings: Settings, folder: RunFolder, manifest: Manifest) -> None:
    """Check the keys and tokenizers of the stages that have videos to process."""
    for key in settings.keys[1:]:
        states = find_states(folder, manifest, key)
        if not (manifest.is_empty or any(state in TO_DO for state in states.values())):
            continue
        captioning, aggregation = settings.config.captioning, settings.config.aggregation
        if key.name == "aggregate" and aggregation.model is not None:
            check_access(aggregation.model, annotates=True)
        elif key.name == "caption":
            for captioner in filter(None, (captioning.segments, captioning.leaves)):
                check_access(captioner.model, annotates=False)


def _pinned(config: Config) -> Config:
    """Return the configuration with every model's revision resolved to its current commit."""

    def pinned(table: Any) -> Any:
        if table is None or table.model is None:
            return table
        return table.model_copy(update={"model": pin_model(table.model)})

    captioning = {name: pinned(getattr(config.captioning, name)) for name in ("segments", "leaves")}
    return config.model_copy(
        update={
            "segmentation": pin(config.segmentation),
            "captioning": config.captioning.model_copy(update=captioning),
            "aggregation": pinned(config.aggregation),
        }
    )
