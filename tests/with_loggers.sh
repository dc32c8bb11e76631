#!/usr/bin/env bash
# Tests of W&B and MLflow, which the usual environment does without: 60 packages that few need.
#
#     tests/with_loggers.sh FOLDER            makes the environment in FOLDER, once, and runs them
#     tests/with_loggers.sh FOLDER COMMAND... runs a command in it instead
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n '2,5p' "$0" >&2
  exit 2
fi
folder=$(realpath -m "$1")
shift
cd "$(dirname "$0")/.."
if [ ! -e "$folder/made" ]; then
  "${PYTHON:-python3}" -m venv "$folder"
  "$folder/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check \
    -c <(grep '==' requirements.lock) -e ".[wandb,mlflow]" pytest
  touch "$folder/made"
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PYTHONPATH="$PWD/src"
if [ $# -gt 0 ]; then
  exec "$folder/bin/$1" "${@:2}"
fi
exec "$folder/bin/python" -m pytest -q -p no:cacheprovider tests/train/test_loggers.py
