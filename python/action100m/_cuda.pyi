from collections.abc import Sequence

from action100m.segmentation.kernels import DeviceArray

ARCHITECTURES: str

class Preprocessor:
    def __init__(
        self,
        short_side: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None: ...
    def __call__(self, frames: DeviceArray, prepared: DeviceArray, stream: int) -> None: ...

def pool(tokens: DeviceArray, pooled: DeviceArray, stream: int) -> None: ...
def add_windows(
    pooled: DeviceArray, starts: Sequence[int], sums: DeviceArray, tubelet: int, stream: int
) -> None: ...
