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
from action100m.errors import ConfigError, NothingToDoError, as_run_stopped
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
from action100m.trace import span

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
    folder = RunFolder(Path(out))
    paths = _find([videos] if isinstance(videos, (str, Path)) else [*videos], folder, console)
    refuse_foreign(folder.data, SHARD_NAME)  # not after hours of work
    earlier = _earlier(folder, needed=config is None)
    config = config or earlier or Config()
    workers = workers or available_cpus()
    manifest = _take_in(paths, folder, config, workers, console)
    _check_engines(config)
    config = _pinned(config)
    for change in changes(earlier, config) if earlier else ():
        _say(console, f"Settings of {folder.root} change: {change}")
    settings = _segment(config, folder, manifest, workers, console)
    release_memory()
    _ask_models(settings, folder, manifest, workers, console)
    del manifest  # large, and read again below: other runs may have added to it
    waiting = f"Waiting for another run that exports the dataset of {folder.root}."
    with span("export"):
        shards = export_what_changed(folder, settings, workers, partial(_say, console, waiting))
    if shards is None:
        _say(console, f"Another run changed the settings of {folder.root} and exports the dataset.")
    counts = count_states(find_overall_states(folder, Manifest(folder), settings.keys))
    return RunResult(counts, shards or [])


def _find(inputs: list[str | Path], folder: RunFolder, console: Console) -> list[Path]:
    """Return the video files; [] only if there are no inputs and the run knows its videos."""

    def tell(left_out: Path) -> None:
        _say(console, f"{left_out} contains output made from videos and is not searched.")

    paths = find_videos(inputs, leave_out=folder.root, tell=tell)
    resumes = folder.manifest.is_dir()
    if not paths and (inputs or not resumes):
        raise NothingToDoError((_NOTHING + _RESUME * resumes).format(folder.root))
    return paths


def _earlier(folder: RunFolder, *, needed: bool) -> Config | None:
    """Return the run folder's configuration; None if it has none, or none that can be read."""
    try:
        return read_config(folder)
    except ConfigError:
        if needed:
            raise
        return None  # it is overwritten


def _take_in(
    paths: list[Path], folder: RunFolder, config: Config, workers: int, console: Console
) -> Manifest:
    """Add the videos to the run's manifest; without any, check those it knows again."""
    folder.root.mkdir(parents=True, exist_ok=True)
    waiting = f"Waiting for another run that reads the sidecars for {folder.root}."
    # If runs start together, only one reads all.
    with locked(folder.root / ".manifest.lock", partial(_say, console, waiting)):
        manifest = Manifest(folder)
        paths = paths or manifest.existing_files()
        problems = manifest.add(paths, config.metadata, workers)
    for problem in problems:
        _say(console, f"Sidecar: {problem}")
    if not manifest.videos:
        raise NothingToDoError(_NOTHING.format(folder.root))
    return manifest


def _say(console: Console, line: str) -> None:
    console.print(harmless(line), highlight=False, markup=False, emoji=False, soft_wrap=True)


def _segment(
    config: Config, folder: RunFolder, manifest: Manifest, workers: int, console: Console
) -> Settings:
    """Write the settings to run.toml, then run stage 1 on every GPU that it may use."""
    with open_segment_stage(config, folder) as stage:
        settings = _settings(config, stage)
        write_settings(folder, settings)
        folder.sweep()
        _check_access(settings, folder, manifest)
        todo = _to_do(stage.key, folder, manifest, manifest.videos, console)
        gpus = other_gpus(config.segmentation) if todo else []
        share = max(1, workers // (1 + len(gpus)))
        with helpers(folder, gpus, share, console):
            _finish(stage.loaded(), todo, folder, share, console)
    return settings


def _ask_models(
    settings: Settings, folder: RunFolder, manifest: Manifest, workers: int, console: Console
) -> None:
    """Run the stages that ask models, each on the videos that the previous stage has done."""
    openers: dict[str, Callable[[], AbstractContextManager[Stage]]] = {
        "caption": lambda: open_caption_stage(settings, folder, workers),
        "aggregate": lambda: open_aggregate_stage(settings, folder),
    }
    for before, key in pairwise(settings.keys):
        finished = folder.done_keys(before)
        ready = [video for video in manifest.videos if video.key in finished]
        todo = _to_do(key, folder, manifest, ready, console)
        _finish(openers[key.name](), todo, folder, workers, console)
        release_memory()


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
        if not any(state in TO_DO for state in states.values()):
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


def _to_do(
    key: StageKey, folder: RunFolder, manifest: Manifest, videos: list[Video], console: Console
) -> list[Video]:
    states = find_states(folder, manifest, key)
    todo = [video for video in videos if states[video.uid] in TO_DO]
    if already := len(videos) - len(todo):
        _say(console, f"{key.name}: {already} of {counted(len(videos), 'video')} left unchanged")
    return todo


def _finish(
    opened: AbstractContextManager[Stage],
    todo: list[Video],
    folder: RunFolder,
    workers: int,
    console: Console,
) -> None:
    """Process the videos; if there are none, no model is loaded."""
    if not todo:
        return
    try:
        with opened as stage:
            sizes = {video.uid: video.size for video in todo}
            with StageProgress(stage.key.name, sizes, console) as progress:
                run_stage(stage, todo, folder, workers, progress)
    except EngineStoppedError as error:  # before the first video
        raise stopped(error) from error
