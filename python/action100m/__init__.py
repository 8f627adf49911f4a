"""action100m: a folder of instructional videos in, an Action100M-style dataset out."""

from action100m._core import __version__
from action100m.tree import Dendrogram, Tree, cut, ward

__all__ = ["Dendrogram", "Tree", "__version__", "cut", "ward"]
