#!/usr/bin/env bash
# Installs a build to a scratch folder and builds a user's project against it, by the CMake package and by
# pkg-config: check_install.sh [BUILD FOLDER]
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build/release}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
prefix=$scratch/moved
cmake --install "$build" --prefix "$scratch/prefix" >/dev/null
mv "$scratch/prefix" "$prefix" # an installed tree can be moved

cmake -S tests/install -B "$scratch/build" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
cmake --build "$scratch/build" >/dev/null
version=$("$scratch/build/consumer_c")
"$scratch/build/consumer_cpp" >/dev/null

PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name mmfuse.pc)")
export PKG_CONFIG_PATH
# shellcheck disable=SC2046
cc tests/install/consumer_c.c $(pkg-config --cflags --libs mmfuse) -o "$scratch/by_pkg_config"
[ "$("$scratch/by_pkg_config")" = "$version" ]
[ "$(pkg-config --modversion mmfuse)" = "$version" ]
"$prefix/bin/mmfuse" --version | grep -qF "$version"
readers=$("$prefix/bin/mmfuse" info --system | sed -n 's/^ *readers *//p')
for format in csd hdf5 media; do
    if [ -x "$build/mmfuse-read-$format" ]; then
        "$prefix/bin/mmfuse-read-$format" --help | grep -qF "usage: mmfuse-read-$format"
        grep -qw "$format" <<<"$readers"
    fi
done
echo "install: $version by CMake (C, C++), by pkg-config and as a command"
