import numpy as np
from numpy.typing import NDArray

__version__: str
DESCRIPTOR_DIMENSION: int

def simd_paths() -> list[str]: ...
def ward(
    rows: NDArray[np.float32] | NDArray[np.float64],
    path: str | None = None,
    block: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...
def first_frames(children: NDArray[np.int64]) -> NDArray[np.int64]: ...
def cut(
    children: NDArray[np.int64],
    edges: NDArray[np.float64],
    min_duration: float,
    absorb_above: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], int]: ...
def describe(frames: NDArray[np.uint8]) -> NDArray[np.float32]: ...
def preprocess(
    frames: NDArray[np.uint8],
    short_side: int,
    size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> NDArray[np.float32]: ...
def count_words(
    offsets: NDArray[np.int32], given: NDArray[np.bool_], characters: NDArray[np.uint8]
) -> int: ...
