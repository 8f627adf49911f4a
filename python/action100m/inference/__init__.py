"""Interface between stages and models: one protocol, three engines."""

from action100m.inference.choice import check_access, check_engine, identity, open_engine, pin
from action100m.inference.engine import (
    Clip,
    Engine,
    EngineStoppedError,
    Image,
    Message,
    Outcome,
    Part,
    Request,
    Result,
    Role,
    Sampling,
    Text,
    Usage,
)
from action100m.inference.feed import Feed

__all__ = [
    "Clip",
    "Engine",
    "EngineStoppedError",
    "Feed",
    "Image",
    "Message",
    "Outcome",
    "Part",
    "Request",
    "Result",
    "Role",
    "Sampling",
    "Text",
    "Usage",
    "check_access",
    "check_engine",
    "identity",
    "open_engine",
    "pin",
]
