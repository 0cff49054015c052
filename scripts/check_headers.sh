#!/usr/bin/env bash
# Every public header compiles alone, strictly, as C11, C17 and C++17, and with gnu17 as the library does; and
# every function they declare is in the library: check_headers.sh [LIBRARY], default build/release/libmmfuse.a
set -euo pipefail
cd "$(dirname "$0")/.."
library=${1:-build/release/libmmfuse.a}
warnings=(-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wundef -Werror)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

count=0
for header in include/mmfuse/*.h; do
    printf '#include "mmfuse/%s"\n' "$(basename "$header")" >"$scratch/one.c"
    cp "$scratch/one.c" "$scratch/one.cpp"
    for standard in c11 c17 gnu17; do
        gcc -std="$standard" "${warnings[@]}" -Wstrict-prototypes -Iinclude -fsyntax-only "$scratch/one.c"
        clang -std="$standard" "${warnings[@]}" -Wstrict-prototypes -Iinclude -fsyntax-only "$scratch/one.c"
    done
    g++ -std=c++17 "${warnings[@]}" -Iinclude -fsyntax-only "$scratch/one.cpp"
    clang++ -std=c++17 "${warnings[@]}" -Iinclude -fsyntax-only "$scratch/one.cpp"
    count=$((count + 1))
done

# A declaration runs from MMF_API to its semicolon; its name stands before the first parenthesis.
cat include/mmfuse/*.h | tr '\n' ' ' | grep -oE 'MMF_API [^;(#]*[( ]' |
    grep -oE 'mmf_[a-z0-9_]+ *\($' | tr -d ' (' | sort -u >"$scratch/declared"
nm --defined-only --extern-only "$library" 2>/dev/null | awk '$2 ~ /[TBDRV]/ {print $3}' | sort -u >"$scratch/defined"
comm -23 "$scratch/declared" "$scratch/defined" >"$scratch/missing"
if [ -s "$scratch/missing" ]; then
    echo "declared, but not in $library:" >&2
    cat "$scratch/missing" >&2
    exit 1
fi
declared=$(wc -l <"$scratch/declared")
[ "$declared" -gt 100 ] || { echo "only $declared declarations found: the search is broken" >&2; exit 1; }
echo "headers: $count compile alone in each language; all $declared functions are in the library"
