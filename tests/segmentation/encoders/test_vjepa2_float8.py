from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from action100m.segmentation.encoders.vjepa2.float8 import (  # noqa: E402
    Float8Linear,
    quantise_rows,
    use_float8,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_every_row_uses_the_whole_range() -> None:
    x = random(5, 64) * torch.tensor([1e-6, 1e-2, 1.0, 1e2, 1e6])[:, None]
    rows, scale = quantise_rows(x)
    assert rows.dtype == torch.float8_e4m3fn
    assert (rows.float().abs().amax(1) == 448).all()
    # e4m3 has 3 bits after the point: half a step is 1/16 of the number; below 2^-6 it is fixed.
    error = (rows.float() * scale - x).abs()
    assert (error <= x.abs() / 16 + scale * 2**-10).all()


def test_rows_of_zeros_stay_zeros() -> None:
    rows, scale = quantise_rows(torch.zeros(2, 16))
    assert not rows.float().any()
    assert torch.isfinite(scale).all()


def test_bfloat16_rows_are_quantised_like_float32() -> None:
    x = random(4, 32).bfloat16()
    ours, truth = quantise_rows(x), quantise_rows(x.float())
    assert torch.equal(ours[0].float(), truth[0].float())
    assert torch.equal(ours[1], truth[1])


def test_the_product_is_near_that_of_float32() -> None:
    linear = torch.nn.Linear(64, 48).bfloat16().requires_grad_(requires_grad=False)
    x = random(2, 7, 64).bfloat16()
    try:
        product = Float8Linear(linear)(x)
    except (NotImplementedError, RuntimeError) as error:
        pytest.skip(f"PyTorch has no float8 product on this CPU: {error}")
    truth = linear.float()(x.float())
    assert product.shape == truth.shape
    assert product.dtype == torch.bfloat16
    assert (product.float() - truth).norm() / truth.norm() < 0.05


def test_unsupported_sizes_are_refused() -> None:
    block = torch.nn.Module()
    block.qkv = torch.nn.Linear(24, 72).bfloat16()
    with pytest.raises(ValueError, match="multiples of 16, and qkv is 24 x 72"):
        use_float8(block)
