#!/usr/bin/env bash
# The daemons' install components; and dither-node alone: its component and the Debian package hold the program, its unit and its settings, nothing else.
source "$(dirname "$0")/lib.sh"
build=$(dirname "$bin")

cmake --install "$build" --component node --prefix "$work/usr" >/dev/null
installed=$(cd "$work/usr" && find . -type f | sort | tr '\n' ' ')
expected="./bin/dither-node ./lib/systemd/system/dither-node.service ./share/doc/dither-node/copyright"
expected+=" ./share/doc/dither-node/examples/node.env "
[ "$installed" = "$expected" ] || fail "the component holds $installed"

cmake --install "$build" --component aggregator --prefix "$work/server" >/dev/null
installed=$(cd "$work/server" && find . -type f | sort | tr '\n' ' ')
[ "$installed" = "./bin/dither-aggregator ./lib/systemd/system/dither-aggregator.service ./share/doc/dither-aggregator/examples/aggregator.env " ] ||
    fail "the aggregator's component holds $installed"

command -v dpkg-shlibdeps >/dev/null || { echo "no dpkg-shlibdeps (dpkg-dev): the package is not tested"; exit 0; }
(cd "$work" && cpack --config "$build/CPackConfig.cmake" -G DEB -B "$work/packages" >"$work/cpack.log" 2>&1) ||
    fail "cpack: $(tail -n 5 "$work/cpack.log")"
package=$(echo "$work"/packages/dither-node_*.deb)
[ "$(dpkg-deb -f "$package" Package)" = dither-node ] || fail "the package is called $(dpkg-deb -f "$package" Package)"
dpkg-deb -f "$package" Depends | grep -q 'libssl3' || fail "it depends on $(dpkg-deb -f "$package" Depends) alone"
contents=$(dpkg-deb -c "$package" | awk '$1 ~ /^-/ { print $6 }' | sort | tr '\n' ' ')
[ "$contents" = "${expected//.\//./usr/}" ] || fail "the package holds $contents"
