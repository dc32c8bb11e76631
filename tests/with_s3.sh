#!/bin/sh
# Runs the tests of packed datasets on S3, which the other tests skip, against moto's server.
# It is no part of the extra dev: it brings some thirty packages, and s3fs, boto3 and fsspec hold
# one another to certain versions. So it has an environment of its own, active or made here first:
#
#     python -m venv build/s3 && build/s3/bin/pip install -e ".[dev]" s3fs "moto[server]" boto3
#     PATH=$PWD/build/s3/bin:$PATH tests/with_s3.sh
set -eu
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
python -c "import boto3, moto.server, s3fs" || { echo "tests/with_s3.sh: s3fs, moto[server] or boto3 is not installed: see its head" >&2; exit 2; }
exec python -m pytest -q -n 0 tests/data/pack/test_remote.py -k s3 "$@"
