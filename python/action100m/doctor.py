"""Checks what this machine can run, and suggests commands that install what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av

from action100m import __version__, _core
from action100m.extras import MODULES, missing_modules
from action100m.processes import available_cpus
from action100m.segmentation import kernels
from action100m.video import ENCODER

_DECODERS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "wmv2", "theora")
_LITTLE_SPACE = 10 * 2**30  # bytes; enough for a run of a few thousand videos


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        what: name of the thing checked.
        ok: whether it is usable; None if it is optional and absent.
        detail: what was found.
        remedy: the command or step that fixes it, or "".
    """

    what: str
    ok: bool | None
    detail: str
    remedy: str = ""


def examine(folder: Path) -> list[Check]:
    """Check the machine, and the disk that holds `folder`."""
    return [*_system(), *_decoding(), _gpu(), _kernels(), *_extras(), _disk(folder)]


def _system() -> Iterator[Check]:
    yield Check("action100m", True, f"{__version__} with Python {platform.python_version()}")
    yield Check("system", True, f"{platform.system()} {platform.machine()}")
    yield Check("CPU", True, f"{available_cpus()} available, kernels: {_core.simd_paths()[-1]}")


def _decoding() -> Iterator[Check]:
    libraries = ", ".join(
        f"{name} {'.'.join(map(str, number))}"
        for name, number in sorted(av.library_versions.items())
        if name in ("libavcodec", "libavformat", "libswscale")
    )
    yield Check("decoding", True, f"PyAV {av.__version__} ({libraries})")
    yield _codecs("codecs", _DECODERS)
    yield _codecs("encoder of clips", (ENCODER,))


def _codecs(what: str, names: tuple[str, ...]) -> Check:
    missing = [name for name in names if name not in av.codecs_available]
    remedy = "pip install --force-reinstall --only-binary av av" if missing else ""
    detail = f"without {', '.join(missing)}" if missing else ", ".join(names)
    return Check(what, not missing, detail, remedy)


def _gpu() -> Check:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Check("GPU", None, "none found; the built-in descriptor does not need one")
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        answer = b""
    names = answer.decode(errors="replace").strip().replace("\n", "; ")
    if not names:
        return Check("GPU", False, "nvidia-smi fails", "run `nvidia-smi` and see its error")
    return Check("GPU", True, names)


def _kernels() -> Check:
    if kernels.COMPILED_FOR is None:
        remedy = "install CUDA's nvcc, then reinstall action100m"
        detail = "not compiled: no nvcc at build time; frames are prepared on the CPU"
        return Check("CUDA kernels", None, detail, remedy)
    return Check("CUDA kernels", True, f"compiled for {kernels.COMPILED_FOR}")


def _extras() -> Iterator[Check]:
    for extra in MODULES:
        missing = missing_modules(extra)
        remedy = f"pip install 'action100m[{extra}]'" if missing else ""
        detail = f"without {', '.join(missing)}" if missing else "installed"
        yield Check(f"extra [{extra}]", None if missing else True, detail, remedy)


def _disk(folder: Path) -> Check:
    place = Path(os.path.realpath(folder))  # resolve() raises an error for a link to itself
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    detail = f"{free / 2**30:.0f} GiB free at {place}"
    enough = free >= _LITTLE_SPACE
    remedy = "" if enough else "free up space, or choose another --out"
    return Check("disk", True if enough else None, detail, remedy)
