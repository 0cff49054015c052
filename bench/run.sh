#!/usr/bin/env bash
# Measures beside PyTorch and rewrites the tables of docs/performance.md. Makes an environment of its own for the
# peer (some 700 MB below build/) unless PEER_PYTHON names a python that has torch.
set -euo pipefail
cd "$(dirname "$0")/.."
peer=${PEER_PYTHON:-}
if [ -z "$peer" ]; then
    peer=build/bench-peer/bin/python
    if [ ! -x "$peer" ]; then
        echo "installing PyTorch 2.13 for the peer into build/bench-peer"
        python3 -m venv build/bench-peer
        "$peer" -m pip install --quiet torch==2.13.0 numpy
    fi
fi
python3 bench/compare.py measure --peer-python "$peer" "$@"
python3 bench/compare.py report
