#!/usr/bin/env bash
# Runs clang-tidy with the tree's .clang-tidy: tidy.sh [FILE...], without files over all of src and cli.
# Needs the compile commands of preset clang (cmake --preset clang): its flags are the ones clang knows.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -eq 0 ]; then
    mapfile -t files < <(git ls-files 'src/*.c' 'cli/*.c')
else
    files=("$@")
fi
failed=0
for file in "${files[@]}"; do
    case "$file" in
    src/base/context.c) extra=() ;; # defines what analyzer.h wraps
    *) extra=(--extra-arg=-include --extra-arg="$PWD/scripts/analyzer.h") ;;
    esac
    output=$(clang-tidy -p build/clang --quiet "${extra[@]}" "$file" 2>/dev/null) || failed=1
    [ -z "$output" ] || printf '%s\n' "$output"
done
exit $failed
