#!/usr/bin/env bash
# Installs what the preset node-arm64 cross-compiles dither-node with, on Debian 12: the toolchain, the arm64 libraries beside
# this machine's own, and qemu to run the result here. Needs root or sudo when something is missing.
set -euo pipefail
cd "$(dirname "$0")"
./packages.sh

packages=(
    g++-aarch64-linux-gnu qemu-user-static
    libboost1.74-dev:arm64 libfmt-dev:arm64 libspdlog-dev:arm64 libssl-dev:arm64 libtomlplusplus-dev:arm64
    libzstd-dev:arm64 zlib1g-dev:arm64
    libbenchmark-dev:arm64 librapidcheck-dev:arm64  # of the tests: -D DITHER_BUILD_TESTS=ON
)

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    echo "installing: ${missing[*]}"
    "${as_root[@]}" dpkg --add-architecture arm64
    "${as_root[@]}" apt-get update -q </dev/null
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${missing[@]}" </dev/null
fi
