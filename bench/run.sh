#!/bin/sh
# run.sh: builds and runs the benchmarks; without PyTorch only those that need no peer.
#
#     bench/run.sh                          our numbers alone
#     MMFUSE_PEER_PYTHON=/path/to/python3 bench/run.sh    with the comparison and its tables
#
# A peer is made by: python3 -m venv peer && peer/bin/pip install torch==2.13.0 numpy
set -eu
cd "$(dirname "$0")/.."
cmake --preset release -DMMF_WITH_BENCH=ON > /dev/null
cmake --build --preset release > /dev/null
: "${OMP_WAIT_POLICY:=passive}"
export OMP_WAIT_POLICY
build/release/micro "$@"
if [ -n "${MMFUSE_PEER_PYTHON:-}" ]; then
    "$MMFUSE_PEER_PYTHON" bench/compare.py measure --peer-python "$MMFUSE_PEER_PYTHON"
    "$MMFUSE_PEER_PYTHON" bench/compare.py report
else
    echo "no MMFUSE_PEER_PYTHON: the comparison with PyTorch is left out (see bench/run.sh)" >&2
fi
