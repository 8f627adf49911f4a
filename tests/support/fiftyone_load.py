"""Load a folder, or a dataset of the Hub, with the real FiftyOne and print its content.

Arguments: a folder or USER/NAME and, to export it again, a folder for the export.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import fiftyone as fo
from fiftyone import ViewField as F
from fiftyone.utils.huggingface import load_from_hub

place, *again = sys.argv[1:]
if Path(place).is_dir():
    dataset = fo.Dataset.from_dir(place, fo.types.FiftyOneDataset)
else:
    dataset = load_from_hub(place)
for folder in again:
    dataset.export(folder, dataset_type=fo.types.FiftyOneDataset)
fields = [
    name
    for name, field in dataset.get_field_schema().items()
    if isinstance(field, fo.EmbeddedDocumentField) and field.document_type is fo.TemporalDetections
]
samples = {}
for sample in dataset.iter_samples():
    samples[Path(sample.filepath).stem] = {
        "media": Path(sample.filepath).is_file(),
        "frames": sample.metadata.total_frame_count,
        "upload_date": str(sample.upload_date),
        **{
            field: [
                [d.label, list(d.support), d.id]
                + [d[name] for name in ("node_id", "parent_id", "level") if d.has_field(name)]
                for d in sample[field].detections
            ]
            for field in fields
        },
    }
level = dataset.filter_labels("gpt_summary_brief", F("level") == 2)
print(
    json.dumps(
        {
            "schema": {
                name: str(field) for name, field in dataset.get_field_schema(flat=True).items()
            },
            "samples": samples,
            "level": level.values("gpt_summary_brief.detections.level", unwind=True),
            "clips": [
                [clip.sample_id, list(clip.support), clip.gpt_summary_brief.label]
                for clip in dataset.to_clips("gpt_summary_brief")
            ],
        }
    )
)
