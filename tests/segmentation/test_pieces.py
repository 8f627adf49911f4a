from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from action100m.segmentation.pieces import ROWS_PER_PIECE, Pieces, encode_in_pieces
from action100m.segmentation.windows import WindowedEncoder
from window_model import SmallModel, batches_of, random_video

N = 5 * ROWS_PER_PIECE // 2
VIDEO = random_video(N)


def encode(folder: Path, model: SmallModel, limit: int = N) -> NDArray[np.float32]:
    """Encode until there are `limit` rows, as if interrupted there."""
    taken = [np.empty((0, model.dimension), np.float32)]
    with WindowedEncoder(model) as encoder:
        pieces = Pieces(folder, model.dimension)
        for rows in encode_in_pieces(encoder, batches_of(VIDEO), pieces):
            taken.append(rows)
            if sum(map(len, taken)) >= limit:
                break
    return np.concatenate(taken)


@pytest.fixture(scope="module")
def truth() -> NDArray[np.float32]:
    with WindowedEncoder(SmallModel()) as encoder:
        return np.concatenate(list(encoder.encode(batches_of(VIDEO))))


@pytest.mark.parametrize("limit", [1, ROWS_PER_PIECE - 1, ROWS_PER_PIECE + 40, N - 1, N])
def test_resumed_rows_have_the_same_bits(
    tmp_path: Path, limit: int, truth: NDArray[np.float32]
) -> None:
    encode(tmp_path / "pieces", SmallModel(), limit)
    model = SmallModel()
    np.testing.assert_array_equal(encode(tmp_path / "pieces", model), truth)
    assert model.prepared <= N - max(0, limit - ROWS_PER_PIECE) + model.window + model.stride


def test_repeatedly_interrupted_encoding_completes(
    tmp_path: Path, truth: NDArray[np.float32]
) -> None:
    for limit in range(600, N, 600):
        encode(tmp_path, SmallModel(), limit)
    np.testing.assert_array_equal(encode(tmp_path, SmallModel()), truth)


@pytest.mark.parametrize("harm", ["cut", "emptied", "other shape", "other type"])
def test_a_damaged_piece_is_computed_again(
    tmp_path: Path, harm: str, truth: NDArray[np.float32], caplog: pytest.LogCaptureFixture
) -> None:
    encode(tmp_path, SmallModel())
    second = sorted(tmp_path.iterdir())[1]
    if harm == "cut":
        second.write_bytes(second.read_bytes()[:-3])
    elif harm == "emptied":
        second.write_bytes(b"")
    else:
        other = truth[:9, 1:] if harm == "other shape" else truth[:9].astype(np.float64)
        np.save(second, other)
    model = SmallModel()
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(encode(tmp_path, model), truth)
    assert caplog.messages == [
        f"{second} is damaged: its rows and those after it are computed again."
    ]
    assert model.prepared < N


def test_pieces_of_a_longer_video_are_refused(tmp_path: Path) -> None:
    encode(tmp_path, SmallModel())
    with WindowedEncoder(SmallModel()) as encoder, pytest.raises(ValueError, match="another video"):
        list(encode_in_pieces(encoder, batches_of(VIDEO[:100]), Pieces(tmp_path, 5)))
