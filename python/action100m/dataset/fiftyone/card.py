"""The dataset card, for people and the Hub: README.md with its YAML header, and fiftyone.yml."""

from __future__ import annotations

import json
from collections.abc import Mapping

from action100m.dataset.fiftyone.fields import LABELS, SCALARS, TRANSCRIPT
from action100m.text import clean, counted, markdown

CONFIG = "fiftyone.yml"
MARK = "# Written by action100m: an export replaces what is in this folder.\n"
_SIZES = {"n<1K": 10**3, "1K<n<10K": 10**4, "10K<n<100K": 10**5, "100K<n<1M": 10**6}
_README = """---
pretty_name: {yaml_name}
annotations_creators: [machine-generated]
task_categories: [video-classification]
tags: [fiftyone, video, temporal-detection, action100m]
size_categories: [{size}]
---

# {name}

{videos}: the first {seconds:g} s of each. The labels are segments of a tree, described by models;
they have not been checked by people.

```python
import fiftyone as fo
from fiftyone.utils.huggingface import load_from_hub

dataset = load_from_hub("USER/NAME")  # or fo.Dataset.from_dir(FOLDER, fo.types.FiftyOneDataset)
session = fo.launch_app(dataset)
```

| field | what it holds |
|---|---|
{fields}

Each label of {labels} has `node_id`, `parent_id` and `level`: the root is level 0.
Segments without such a label, and actions that are "N/A", are left out.
{models}"""


def config(name: str) -> str:
    """Return fiftyone.yml, by which FiftyOne's `load_from_hub` recognises the format."""
    return f"{MARK}name: {_yaml(name)}\nformat: FiftyOneDataset\ntags: [video, action100m]\n"


def card(name: str, videos: int, seconds: float, made_by: Mapping[str, str]) -> str:
    """Return README.md.

    Args:
        name: name of the dataset.
        videos: number of videos.
        seconds: seconds of each video that are exported.
        made_by: models and settings, by keys such as "action100m.gpt.model".
    """
    models = {key: model for key, model in made_by.items() if key.endswith(".model")}
    return _README.format(
        yaml_name=_yaml(name),
        name=markdown(name),
        size=next((size for size, most in _SIZES.items() if videos < most), "n>1M"),
        videos=counted(videos, "video"),
        seconds=seconds,
        fields="\n".join(_field_lines()),
        labels=", ".join(f"`{field}`" for field in LABELS),
        models="".join(["\nModels:\n\n"] * bool(models))
        + "".join(f"- {markdown(key)}: {markdown(model)}\n" for key, model in models.items()),
    )


def _field_lines() -> list[str]:
    return [
        *(f"| `{field}` | {kind} |" for field, kind in SCALARS.items()),
        *(f"| `{field}` | TemporalDetections of `gpt.{path}` |" for field, path in LABELS.items()),
        f"| `{TRANSCRIPT}` | TemporalDetections of the transcript |",
    ]


def _yaml(text: str) -> str:
    """Return a YAML string: JSON strings are valid YAML."""
    return json.dumps(clean(text, 200), ensure_ascii=False)
