#!/usr/bin/env bash
# Installs what mmfuse needs to build and to run its tests, on Debian 12 or newer and its relatives:
#   install_dependencies.sh       compiler, cmake, ninja, libraries
#   install_dependencies.sh ci    also what .ci/run uses: clang and its tools, ffmpeg, python3 with numpy, a browser for
#                                 the tests of the HTML report
# Only what is missing is installed, through apt-get, and only as root; otherwise the line to run is printed.
set -euo pipefail

missing=()

# need_command COMMAND PACKAGE: a command from anywhere will do.
need_command() {
    command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}

# need_package PACKAGE: libraries must be there with their headers.
need_package() {
    dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed || missing+=("$1")
}

# need_cmake MAJOR MINOR
need_cmake() {
    local found
    found=$(cmake --version 2>/dev/null | sed -n 's/^cmake version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
    local major=0 minor=0
    [ -z "$found" ] || read -r major minor <<<"$found"
    ((major > $1 || (major == $1 && minor >= $2))) || missing+=(cmake)
}

case "${1:-}" in
"" | ci) ;;
*)
    echo "usage: install_dependencies.sh [ci]" >&2
    exit 2
    ;;
esac
if ! command -v dpkg-query >/dev/null 2>&1; then
    cat >&2 <<'END'
This script knows Debian and its relatives. Elsewhere install: a C17 compiler, cmake >= 3.25, ninja, pkg-config, and
the libraries oneDNN, zlib, jansson, utf8proc, cmocka, HDF5 (C), kissfft and FFmpeg (5.1 or newer) with their
headers; then run
cmake --preset release.
END
    exit 1
fi

need_cmake 3 25
need_command ninja ninja-build
need_command gcc gcc
need_command pkg-config pkg-config
for package in libc6-dev libdnnl-dev zlib1g-dev libjansson-dev libcmocka-dev libhdf5-dev libkissfft-dev libutf8proc-dev \
    libavformat-dev libavcodec-dev libavutil-dev libswscale-dev libswresample-dev; do
    need_package "$package"
done
if [ "${1:-}" = ci ]; then
    need_command g++ g++
    need_command ffmpeg ffmpeg
    for command in clang clang-format clang-tidy python3; do
        need_command "$command" "$command"
    done
    need_package libclang-rt-14-dev
    python3 -c 'import numpy' 2>/dev/null || need_package python3-numpy
    need_command chromium chromium
    need_command chromedriver chromium-driver
    # .ci/run takes the system's python3 where the first one on the PATH lacks them.
    python3 -c 'import pytest, selenium' 2>/dev/null ||
        for package in python3-pytest python3-selenium; do
            need_package "$package"
        done
fi

if [ ${#missing[@]} -eq 0 ]; then
    echo "dependencies: all there"
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "dependencies missing; run: sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
echo "dependencies: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
install=(apt-get install -y -qq --no-install-recommends "${missing[@]}")
# Old package lists are the usual reason for a failure.
"${install[@]}" || { apt-get update -qq && "${install[@]}"; }
