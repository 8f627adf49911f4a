#!/usr/bin/env bash
# Builds, tests and measures the CUDA parts on a machine with an NVIDIA GPU, without network access.
#
#   bench/gpu.sh [tests] [encode] [kernels] [dali] [tensorrt] [sanitizers]     by default all of them
#
# The machine needs nvcc, cmake and Python with torch, transformers, pydantic (with pydantic-core and
# annotated-types), jinja2, numpy, pybind11, pytest and hypothesis. Missing packages can be put as wheels into
# the folder that WHEELS names. The logs, as logs.tgz, and the result of each benchmark, as NAME.json, go to
# OUT (bench/results). Exits with 1 if a step failed. Where a command may take 10 minutes only, run
# `tests kernels`, `encode dali` and `sanitizers` one after the other; `tensorrt` may take longer.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${OUT:-bench/results}")
mkdir -p "$out"
work=$(mktemp -d)
collect() {
  (cd "$out" && tar czf logs.tgz -- *.log && rm -f -- *.log)
  rm -rf "$work"
}
trap collect EXIT
failed=0

# step SECONDS NAME COMMAND…: write its output to NAME.log, and the end of it to the terminal too
step() {
  local seconds=$1 name=$2 status=0
  shift 2
  echo "== $name"
  timeout "$seconds" "$@" >"$out/$name.log" 2>&1 || status=$?
  tail -n 25 "$out/$name.log"
  [ $status = 0 ] || { echo "== $name failed with $status"; failed=1; }
  return $status
}

# A benchmark prints its result after each variant: one that was stopped has a result too.
bench() {
  local name=$2 last
  step "$@"
  last=$(grep '^{' "$out/$name.log" | tail -n 1) && [ -n "$last" ] && echo "$last" >"$out/$name.json"
}

# Builds with CMake into a separate folder: no build backend and no installer are needed.
build() {
  local version
  version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml | head -n 1)
  cmake -S . -B "$work/build" -DCMAKE_BUILD_TYPE=Release \
    -DSKBUILD_PROJECT_VERSION="$version" \
    -DPython_EXECUTABLE="$(command -v python3)" -DPYBIND11_FINDPYTHON=ON \
    -Dpybind11_DIR="$(python3 -m pybind11 --cmakedir)" &&
    cmake --build "$work/build" -j "$(nproc)" &&
    cp -r python "$work/site" &&
    cmake --install "$work/build" --prefix "$work/site" &&
    python3 -c "from action100m import _cuda; print('built for', _cuda.ARCHITECTURES)"
}
export PYTHONPATH="$work/site:$work/wheels"
if [ -n "${WHEELS:-}" ]; then
  step 30 wheels python3 -m pip install --no-index --no-deps --target "$work/wheels" "$WHEELS"/*.whl
fi
export work
export -f build
nvidia-smi >"$out/machine.log" 2>&1
{ uname -r; nvcc --version; python3 -c "import torch; print(torch.__version__)"; } >>"$out/machine.log" 2>&1
step 60 imports python3 -c "import hypothesis, jinja2, pydantic, pytest, torch, transformers
assert torch.cuda.is_available(), 'PyTorch finds no GPU'" || exit 1
step 90 build bash -euo pipefail -c build || exit 1

run_tests() {
  step 240 tests python3 -m pytest -v -m gpu tests/gpu \
    --ignore tests/gpu/test_dali.py --ignore tests/gpu/test_tensorrt.py
}
run_encode() { bench 330 encode python3 bench/encode.py; }
run_kernels() { bench 60 kernels python3 bench/kernels.py; }
# pytest exits with 5 (no tests were run) if DALI or PyAV is not installed.
run_dali() { step 90 dali bash -c 'python3 -m pytest -v -m gpu tests/gpu/test_dali.py || [ $? = 5 ]'; }
run_tensorrt() {
  python3 -c "import onnxscript, tensorrt" 2>/dev/null || { echo "== no TensorRT here"; return; }
  step 400 tensorrt python3 -m pytest -v -m gpu tests/gpu/test_tensorrt.py
  bench 1200 encode_tensorrt python3 bench/encode_tensorrt.py
}
run_sanitizers() {
  local tool
  command -v compute-sanitizer >/dev/null || { echo "== no compute-sanitizer here"; return; }
  for tool in memcheck racecheck; do
    # Only some tests: they run about a hundred times slower here. Without torch's memory pool,
    # so that out-of-bounds accesses to each array are detected.
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 step 200 "$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 \
      python3 -m pytest -q -m gpu tests/gpu/test_kernels.py \
      -k "takes_any_batch or any_address or (pool_is_the_mean and 3-7-264) or add_windows"
  done
}
[ $# -gt 0 ] || set -- tests encode kernels dali tensorrt sanitizers
for part in "$@"; do "run_$part" || failed=1; done
exit $failed
