#!/usr/bin/env bash
# Tests of networks of timm, which the usual environment cannot have: timm needs torchvision, and
# PyPI's torchvision is made for PyTorch's CUDA build (5 GB), not for its CPU build.
#
#     tests/with_timm.sh FOLDER            makes the environment in FOLDER, once, and runs the tests
#     tests/with_timm.sh FOLDER COMMAND... runs a command in it instead
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n '2,7p' "$0" >&2
  exit 2
fi
folder=$(realpath -m "$1")
shift
cd "$(dirname "$0")/.."
if [ ! -e "$folder/made" ]; then
  "${PYTHON:-python3}" -m venv "$folder"
  # === takes PyPI's own build even where a CPU build of the same number lies about.
  "$folder/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check \
    "torch===$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' requirements.lock)" torchvision \
    -e ".[timm,export]" pytest hypothesis
  touch "$folder/made"
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PYTHONPATH="$PWD/src"
if [ $# -gt 0 ]; then
  exec "$folder/bin/$1" "${@:2}"
fi
exec "$folder/bin/python" -m pytest -q -p no:cacheprovider tests/models/test_timm.py
