"""Measure what a run folder with many videos costs: `status` and `export`, per video.

Every video has the parts of all three stages, with texts of the published lengths; they are copies
of one. The rival of `status` reads the rows of the parts that it summarises, that of `export` reads
the rows that it writes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import action100m
from action100m.config import Config
from action100m.demo import draw_demo_video
from action100m.inference import Outcome, Usage
from action100m.inference.answers import Answer, question_key, to_table
from action100m.processes import available_cpus
from action100m.runs.costs import with_costs
from action100m.runs.export import export
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest
from action100m.runs.settings import Settings, read_settings, write_settings
from action100m.runs.status import describe_run
from action100m.segmentation.part import from_table
from action100m.tree import Tree
from captioned import Writer
from harness import finish, median_seconds, parse_arguments, print_table

_MODEL = {"engine": "openai", "model": "none", "urls": ["http://localhost/v1"]}
_ROUNDS = 4  # a draft and three refinements


def make_run(folder: RunFolder, videos: int, video: Path) -> tuple[Settings, int]:
    """Fill a run folder with finished copies of one video; return its number of segments too."""
    once = RunFolder(folder.root.with_name("once"))
    action100m.run(video, once.root)
    settings = _with_models(read_settings(once))
    [row] = Manifest(once).videos
    segments = once.read_part(settings.key("segment"), row.key)
    tree = from_table(segments).tree(settings.config.cut)
    parts = {"segment": segments, **_answers(tree)}
    paths = [folder.root / f"{number:07d}.mp4" for number in range(videos)]
    folder.root.mkdir()
    for path in paths:
        path.touch()
    manifest = Manifest(folder)
    manifest.add(paths)
    write_settings(folder, settings)
    for one in manifest.videos:
        for stage, table in parts.items():
            folder.commit_part(settings.key(stage), one.key, table)
    return settings, len(tree)


def _with_models(settings: Settings) -> Settings:
    table = settings.config.model_dump(mode="json", exclude_none=True)
    table["captioning"] |= {"segments": {"model": _MODEL}, "leaves": {"model": _MODEL}}
    table["aggregation"] |= {"model": _MODEL | {"tokenizer": "none"}}
    captioner = {"model": "none"}
    identities = {
        **settings.identities,
        "caption": {"segments": captioner, "leaves": captioner},
        "aggregate": captioner,
    }
    return Settings(Config.model_validate(table), identities)


def _answers(tree: Tree) -> dict[str, object]:
    writer = Writer(0)

    def answer(field: str, node: int, text: str | None) -> tuple[str, int, Answer]:
        key = question_key({"field": field, "node": node})
        return field, node, Answer(key, Outcome.COMPLETE, text, "", Usage(2000, 1700, 200, 0))

    nodes = range(len(tree))
    captions = [answer("plm_caption", node, writer.write(70)) for node in nodes]
    captions += [answer("plm_action", node, writer.write(6.5)) for node in nodes]
    leaves = tree.leaves.tolist()
    captions += [answer("llama3_caption", node, writer.write(165)) for node in leaves]
    annotations = [answer("gpt", node, writer.annotation()) for node in nodes]
    annotations += [answer(f"gpt.{k}", node, None) for node in nodes for k in range(_ROUNDS)]
    return {
        "caption": with_costs(to_table(captions)),
        "aggregate": with_costs(to_table(annotations)),
    }


def main() -> None:
    """Measure and print."""
    videos = 20_000 if parse_arguments(__doc__).full else 512
    with tempfile.TemporaryDirectory() as temporary:
        folder, video = RunFolder(Path(temporary) / "run"), Path(temporary) / "tea.mp4"
        draw_demo_video(video)
        settings, segments = make_run(folder, videos, video)

        manifest = Manifest(folder)

        def read(*stages: str) -> None:
            for one in manifest.videos:
                for stage in stages:
                    folder.read_part(settings.key(stage), one.key)

        seconds = {
            "status": median_seconds(lambda: list(describe_run(folder.root)), 3),
            "its parts' rows": median_seconds(lambda: read("caption", "aggregate"), 3),
            "export": median_seconds(
                lambda: export(folder, manifest, settings, available_cpus()), 3
            ),
            "all parts' rows": median_seconds(lambda: read("segment", "caption", "aggregate"), 3),
        }
    print(f"{videos:,} videos of {segments} segments, {available_cpus()} CPUs")
    rows = [[name, each / videos * 1e3, each / videos * 1e6 / 60] for name, each in seconds.items()]
    print_table(("what", "ms per video", "minutes for a million"), rows)
    finish(
        "run_folder",
        ours=seconds["status"] / videos,
        rival=seconds["its parts' rows"] / videos,
        ratio=seconds["its parts' rows"] / seconds["status"],
        unit="s/video",
        export=seconds["export"] / videos,
        export_over_reading=seconds["export"] / seconds["all parts' rows"],
        segments=segments,
    )


if __name__ == "__main__":
    main()
