#!/usr/bin/env bash
# The long checks, each of which goes on when another one fails: fuzzing, valgrind, thread sanitizer, line coverage. What
# is not installed is said and left out. NIGHTLY_FUZZ_SECONDS (3600) is divided among the fuzz targets.
set -uo pipefail
cd "$(dirname "$0")/.."
jobs=${JOBS:-$(nproc)}
failed=()

build() {
    cmake --preset "$1" "${@:2}" >/dev/null && cmake --build "build/$(basename "${builddir:-$1}")" -j "$jobs"
}

fuzz_long() {
    build fuzz || return 1
    local targets=(fuzz/fuzz_*.c) source name
    local each=$((${NIGHTLY_FUZZ_SECONDS:-3600} / ${#targets[@]}))
    local found=$PWD/build/fuzz/found result=0
    for source in "${targets[@]}"; do
        name=$(basename "$source" .c)
        mkdir -p "$found/$name"
        "build/fuzz/$name" -max_total_time="$each" -timeout=20 -rss_limit_mb=2048 -verbosity=0 \
            -artifact_prefix="$found/$name-" "$found/$name" "fuzz/corpus/$name" || result=1
    done
    return $result
}

# Valgrind 3.19 does not know AVX-512, and oneDNN's generated code is not ours: portable kernels.
valgrind_all() {
    command -v valgrind >/dev/null || { echo "valgrind is not installed: left out"; return 0; }
    build nodeps || return 1
    local program result=0
    for program in build/nodeps/test_*; do
        case "$program" in */test_precision | */test_helper | */test_compare | */test_jobs | */test_bench) continue ;; esac
        [ -x "$program" ] && [ -f "$program" ] || continue
        echo "valgrind: $program"
        MMFUSE_CPU=portable valgrind --quiet --error-exitcode=9 --leak-check=full "$program" >build/valgrind.log 2>&1 ||
            { tail -40 build/valgrind.log; result=1; }
    done
    return $result
}

threads() {
    builddir=tsan build nodeps -B build/tsan -DMMF_SANITIZE=thread -DMMF_STATIC=OFF -DCMAKE_BUILD_TYPE=RelWithDebInfo &&
        ctest --test-dir build/tsan --output-on-failure -j "$jobs"
}

# Lines of base, io and tensor that the tests reach, in percent; fails below 90.
coverage() {
    builddir=coverage build nodeps -B build/coverage -DMMF_STATIC=OFF -DCMAKE_BUILD_TYPE=Debug \
        -DCMAKE_C_FLAGS=--coverage || return 1
    find build/coverage -name '*.gcda' -delete
    ctest --test-dir build/coverage -j "$jobs" >/dev/null || return 1
    local floor result=0
    for floor in base io tensor; do
        find build/coverage -path "*src/$floor/*" -name '*.gcda' ! -path '*double*' -print0 |
            xargs -0 gcov -n 2>/dev/null |
            awk -v floor="$floor" '
                /^File / { ours = index($0, "/src/" floor "/") > 0; name = $2 }
                /^Lines executed/ && ours {
                    split($0, part, /[:% ]+/); percent = part[3]; lines = part[5]
                    if (!(name in seen) || percent > seen[name]) { seen[name] = percent }
                    total[name] = lines
                }
                END {
                    for (name in seen) { hit += seen[name] * total[name] / 100; all += total[name] }
                    if (all > 0) { printf "coverage of %s: %.1f %% of %d lines\n", floor, 100 * hit / all, all }
                    exit !(all > 0 && hit / all >= 0.9)
                }' || result=1
    done
    return $result
}

for check in fuzz_long valgrind_all threads coverage; do
    echo "=== $check"
    start=$SECONDS
    "$check" || failed+=("$check")
    echo "=== $check: $((SECONDS - start)) s"
done
[ ${#failed[@]} -eq 0 ] || { echo "FAILED: ${failed[*]}" >&2; exit 1; }
echo "passed in $SECONDS s: fuzzing, valgrind, thread sanitizer, coverage"
