#!/usr/bin/env bash
# Installs the Debian packages that Dither builds and runs with, those that are missing only. Sourced or run by
# quickstart.sh and tests/run.sh; needs root or sudo when something is missing.
set -euo pipefail

packages=(
    g++ cmake ninja-build pkg-config
    libopenmpi-dev openmpi-bin libeigen3-dev libboost-dev libcereal-dev doctest-dev
    libssl-dev zlib1g-dev libzstd-dev libfmt-dev librandom123-dev libtomlplusplus-dev libcli11-dev nlohmann-json3-dev
    libzip-dev libstb-dev
    libspdlog-dev openssl curl python3
    libbenchmark-dev librapidcheck-dev
    dataset-fashion-mnist gnuplot-nox jq
)

# The faster convolutions on AVX-512, and an older processor for a test; Dither builds and tests without them.
if [ "$(dpkg --print-architecture)" = amd64 ]; then
    packages+=(libdnnl-dev qemu-user)
fi

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { echo "missing packages, and neither root nor sudo: ${missing[*]}" >&2; exit 1; }
        as_root=(sudo)
    fi
    echo "installing: ${missing[*]}"
    "${as_root[@]}" apt-get update -q </dev/null
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${missing[@]}" </dev/null
fi
