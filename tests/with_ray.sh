#!/bin/sh
# Runs the tests of gtdnet bulk, check and pack on Ray, which the other tests skip: Ray is 600 MiB.
# An environment with this project and gtdnet[ray] must be active, or be made here first:
#
#     python -m venv build/ray && build/ray/bin/pip install -c requirements.lock -e ".[ray,dev]"
#     PATH=$PWD/build/ray/bin:$PATH tests/with_ray.sh
set -eu
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
python -c "import ray.data" || { echo "tests/with_ray.sh: Ray is not installed: see its head" >&2; exit 2; }
exec python -m pytest -q -n 0 tests/bulk/test_on_ray.py tests/spread/test_on_ray.py "$@"
