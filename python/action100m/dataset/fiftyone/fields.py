"""The fields of the FiftyOne preview, and the document that declares them."""

from __future__ import annotations

from typing import Any

SCALARS = {
    "title": "String",
    "description": "String",
    "full_video_url": "String",
    "upload_date": "DateTime",
    "view_count": "Int",
    "like_count": "Int",
    "full_video_duration": "Float",
    "transcript": "String",
    "tree_depth": "Int",
}
"""Plain fields by name, with FiftyOne's name of their type."""

LABELS = {
    "gpt_summary_brief": "summary.brief",
    "gpt_summary_detailed": "summary.detailed",
    "gpt_action_brief": "action.brief",
    "gpt_action_detailed": "action.detailed",
    "gpt_action_actor": "action.actor",
}
"""TemporalDetections of segments by field name, with the path below `gpt` that they show."""

TRANSCRIPT = "transcript_segments"
"""The field with TemporalDetections of the transcript."""

_OLDEST = "1.0.0"  # FiftyOne migrates a dataset of this version to its own version
_CORE = {
    "id": ("ObjectId", "_id"),
    "filepath": ("String", "filepath"),
    "_media_type": ("String", "_media_type"),
    "_rand": ("Float", "_rand"),
    "_dataset_id": ("ObjectId", "_dataset_id"),
    "created_at": ("DateTime", "created_at"),
    "last_modified_at": ("DateTime", "last_modified_at"),
}
_METADATA = {
    "size_bytes": "Int",
    "mime_type": "String",
    "frame_width": "Int",
    "frame_height": "Int",
    "frame_rate": "Float",
    "total_frame_count": "Int",
    "duration": "Float",
    "encoding_str": "String",
}
_SEGMENT = {"node_id": "String", "parent_id": "String", "level": "Int"}


def dataset_document(name: str, info: dict[str, Any]) -> dict[str, Any]:
    """Return the content of metadata.json.

    Args:
        name: name of the dataset; it can be changed on loading.
        info: shown beside the dataset; says how it was made.
    """
    return {
        "version": _OLDEST,
        "name": name,
        "media_type": "video",
        "info": info,
        "sample_fields": [
            *(_field(field, kind, db_field=db) for field, (kind, db) in _CORE.items()),
            _field("tags", "List", subfield="String"),
            _embedded("metadata", "metadata.VideoMetadata", _plain(_METADATA)),
            *_plain(SCALARS),
            *(_detections(field, _SEGMENT) for field in LABELS),
            _detections(TRANSCRIPT, {}),
        ],
    }


def _detections(name: str, attributes: dict[str, str]) -> dict[str, Any]:
    one = [
        _field("id", "ObjectId", db_field="_id"),
        _field("tags", "List", subfield="String"),
        *_plain({"label": "String", "confidence": "Float"}),
        _field("support", "FrameSupport", subfield="Int"),
        *_plain(attributes),
    ]
    many = _field("detections", "List", subfield="EmbeddedDocument")
    many |= {"embedded_doc_type": _core("labels.TemporalDetection"), "fields": one}
    return _embedded(name, "labels.TemporalDetections", [many])


def _plain(kinds: dict[str, str]) -> list[dict[str, Any]]:
    return [_field(name, kind) for name, kind in kinds.items()]


def _embedded(name: str, document: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return _field(name, "EmbeddedDocument") | {
        "embedded_doc_type": _core(document),
        "fields": fields,
    }


def _field(
    name: str, kind: str, *, subfield: str | None = None, db_field: str | None = None
) -> dict[str, Any]:
    return {
        "name": name,
        "ftype": _core(f"fields.{kind}Field"),
        "embedded_doc_type": None,
        "subfield": subfield and _core(f"fields.{subfield}Field"),
        "fields": [],
        "db_field": db_field or name,
    }


def _core(name: str) -> str:
    return f"fiftyone.core.{name}"
