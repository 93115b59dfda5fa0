#!/usr/bin/env bash
# The house's rules: rooms include each other in one direction only, heavy headers and private ones stay out of public ones,
# a room's private headers are its own, every source is registered in CMake, and the top level holds nothing else.
set -euo pipefail
fail=0
complain() { echo "FAILED: $*" >&2; fail=1; }

may_include() {  # ROOM ALLOWED_ROOMS
    local room=$1 allowed=$2 found
    found=$(grep -rnE '#include "[a-z]+/' "$room" --include='*.?pp' | grep -vE "#include \"($allowed)/" || true)
    [ -z "$found" ] || complain "$room may include only $allowed:"$'\n'"$found"
}
may_include core 'core'
may_include transport 'core|transport'
may_include node 'core|transport|node'
may_include aggregator 'core|transport|aggregator'
may_include examples 'core|transport|node|aggregator|examples'

heavy=$(find core transport node aggregator -name '*.hpp' -not -path '*/detail/*' -print0 |
    xargs -0 grep -nE '#include <(mpi\.h|boost/asio|cereal|dnnl|toml|nlohmann|openssl)' || true)
[ -z "$heavy" ] || complain "public headers include heavy ones:"$'\n'"$heavy"

leaks=$(find core transport node aggregator -name '*.hpp' -not -path '*/detail/*' -print0 |
    xargs -0 grep -nE '#include "[a-z_/]*detail/' || true)
[ -z "$leaks" ] || complain "public headers include private ones:"$'\n'"$leaks"
for room in core transport node aggregator examples; do
    strangers=$(grep -rnE '#include "[a-z_/]*detail/' "$room" --include='*.?pp' | grep -vE "#include \"$room/" || true)
    [ -z "$strangers" ] || complain "$room includes private headers of other rooms:"$'\n'"$strangers"
done

while read -r file; do
    room=${file%%/*}
    found=0
    lists=$(find "$room" -name CMakeLists.txt)
    for list in $lists; do
        folder=$(dirname "$list")
        case "$file" in "$folder"/*) grep -qF "${file#"$folder"/}" "$list" && found=1 ;; esac
    done
    [ $found -eq 1 ] || complain "$file is not registered in CMake"
done < <(find core transport node aggregator examples tests -name '*.cpp')

for entry in *; do
    case " core node aggregator transport examples tests CMakeLists.txt CMakePresets.json README.md LICENSE build runs " in
    *" $entry "*) ;;
    *) complain "top level: $entry does not belong there" ;;
    esac
done
for room in core transport node aggregator; do
    [ -s "$room/README.md" ] || complain "$room has no README.md"
done
exit $fail
