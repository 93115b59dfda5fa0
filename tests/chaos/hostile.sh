#!/usr/bin/env bash
# Malformed traffic against the real dither-aggregator, over TLS, with real dither-nodes beside it: everything is refused
# with one line in the log that names who and why, the aggregator's memory stays flat, the honest nodes finish all
# rounds, and the model is, bit for bit, that of the same job without any attacker.
#
#     tests/chaos/hostile.sh DIR [--rounds N] [--times N] [--flood N] [--codec KIND] [--short]      (2000, 200, 1000, grid)
#
# First a table: attack, what the log says of it, how many lines. Then every attack that takes no time and that ends its
# connection, --times times; --flood connections at once that say nothing; and one lie a round until --rounds are done.
# One attack takes the id of an honest node, which comes back by itself after a pause of up to a minute; with --short it
# is started again instead. BIN: where the programs are (build/release/bin).
#
# Why the models compare: five clients make the cohort, and four of them a quorum. The fifth is the liar's. None of its
# updates is ever counted, so that every round is made of the honest four; without attackers there is nobody who speaks
# for it, and no round waits for it (federation.rejoin = 0s). One update of edge-4 comes from an attacker, who trains as
# edge-4 would have, and sends it three times: counted twice, it would show.
set -euo pipefail
usage="usage: tests/chaos/hostile.sh DIR [--rounds N] [--times N] [--flood N] [--codec KIND] [--short]"
[ $# -ge 1 ] || { echo "$usage" >&2; exit 2; }
dir=$(realpath -m "$1")
bin=$(realpath "${BIN:-$(dirname "$0")/../../build/release/bin}")
cd "$(dirname "$0")/../.."
shift
rounds=2000 times=200 flood=1000 codec=grid short=
while [ $# -gt 0 ]; do
    case $1 in
        --short) short=yes; shift; continue ;;
        --rounds) rounds=${2:?$usage} ;;
        --times) times=${2:?$usage} ;;
        --flood) flood=${2:?$usage} ;;
        --codec) codec=${2:?$usage} ;;
        *) echo "$usage" >&2; exit 2 ;;
    esac
    shift 2
done
[ "$rounds" -ge 20 ] || { echo "--rounds $rounds: expected at least 20, for each kind of lie takes one" >&2; exit 2; }
ulimit -n "$(ulimit -Hn)"
mkdir -p "$dir"

# Who there is. The authority signs for all but the foreigner; revoked, unlisted and expired may not join all the same.
certificates=$dir/certificates
if [ ! -e "$certificates/foreign.crt" ]; then
    export DAYS=3650
    rm -rf "$certificates"
    examples/certificates.sh "$certificates" authority >/dev/null
    examples/certificates.sh "$certificates" aggregator 127.0.0.1 >/dev/null
    for node in edge-1 edge-2 edge-3 edge-4 liar unlisted revoked; do examples/certificates.sh "$certificates" node $node >/dev/null; done
    DAYS=-1 examples/certificates.sh "$certificates" node expired >/dev/null
    examples/certificates.sh "$certificates" revoke revoked >/dev/null
    examples/certificates.sh "$certificates/elsewhere" authority >/dev/null
    examples/certificates.sh "$certificates/elsewhere" node foreign >/dev/null
    cp "$certificates/elsewhere"/foreign.* "$certificates"
fi
printf '%s\n' edge-1 edge-2 edge-3 edge-4 liar revoked expired foreign >"$dir/allowed"
awk -v dir="$dir" 'BEGIN {
    srand(1)
    for (i = 0; i < 600; ++i) {
        line = ""
        for (j = 0; j < 10; ++j) line = line sprintf("%.3f,", rand() + (j % 3 == i % 3))
        print line i % 3 >(dir "/table-" i % 5 + 1 ".csv")
    }
}'
cat >"$dir/job.toml" <<JOB
job = { name = "hostile", rounds = $rounds, evaluate_every = $rounds }
data = { format = "csv" }
model = { name = "mlp", hidden = [16] }
train = { batch_size = 8 }
federation = { clients = 5, cohort = 5, quorum = 0.8, rejoin = "300s" }
precision = { policy = "uniform", bits = 8 }
codec = { uplink = { kind = "$codec" } }
JOB

declare -A node_pid attack_pid began
aggregator_pid=
stop_all() {
    kill ${attack_pid[*]:-} 2>/dev/null || true
    kill -9 ${aggregator_pid:-} ${node_pid[*]:-} 2>/dev/null || true
    wait 2>/dev/null || true
}
trap stop_all EXIT
fail() { echo "FAILED: $*" >&2; tail -n 5 "$run"/aggregator.log "$run"/edge-*.log >&2; exit 1; }
tls() { echo "--tls-cert $certificates/$1.crt --tls-key $certificates/$1.key --tls-ca $certificates/ca.crt"; }
milliseconds() { echo $(($(date +%s%N) / 1000000)); }
# await SECONDS WHAT...: until the command succeeds
await() {
    local until=$(($(milliseconds) + 1000 * $1))
    shift
    until "$@"; do
        kill -0 "$aggregator_pid" 2>/dev/null || fail "the aggregator has ended while it was waited for: $*"
        [ "$(milliseconds)" -lt "$until" ] || fail "waited too long for: $*"
        sleep 0.02
    done
}
says() { grep -qE -- "$1" "$2"; }  # WORDS FILE
port_in_log() { grep -om1 "$1[0-9.]*:[0-9]*" "$log" | grep -o '[0-9]*$'; }
status() { curl -fs -m 5 "http://127.0.0.1:$http/status" | jq -r "$1"; }
resident() { awk "/^$1:/ {print \$2}" "/proc/$aggregator_pid/status"; }  # KiB

# Sanitizers keep what is freed.
ldd "$bin/dither-aggregator" | grep -q 'lib[at]san' && measured= || measured=yes
grows_at_most() {  # KIB BEFORE AFTER WHAT
    [ -z "$measured" ] || [ $(($3 - $2)) -le "$1" ] || fail "memory grew from $2 to $3 KiB $4, expected $1 at most"
}

start() {  # RUN OVERRIDES...: the aggregator
    run=$dir/$1 log=$dir/$1/aggregator.log
    shift
    rm -rf "$run"
    mkdir -p "$run"
    : >"$log"
    "$bin/dither-aggregator" "$dir/job.toml" --listen 127.0.0.1:0 --http 0 --state "$run/aggregator" --data "$dir/table-1.csv" \
        --nodes 4 $(tls aggregator) --tls-crl "$certificates/revoked.crl" --allow "$dir/allowed" --set output.pictures=false \
        "$@" 2>>"$log" &
    aggregator_pid=$!
    await 60 says ' on 127.0.0.1:' "$log"
    port=$(port_in_log ' on ') http=$(port_in_log 'http://')
    hostile=("$bin/dither-hostile" --aggregator "127.0.0.1:$port" --certificates "$certificates")
}
start_node() {  # NUMBER
    "$bin/dither-node" --aggregator "127.0.0.1:$port" --data "$dir/table-$1.csv" --state "$run/edge-$1" --id "edge-$1" \
        --client $(($1 - 1)) $(tls "edge-$1") 2>>"$run/edge-$1.log" &
    node_pid[$1]=$!
}
finish() {  # the hash of the model
    wait "$aggregator_pid" || fail "the aggregator ended with $?"
    aggregator_pid=
    for node in 1 2 3 4; do wait "${node_pid[$node]}" || fail "edge-$node ended with $?"; done
    node_pid=()
    jq -er .model_sha256 "$run/aggregator/summary.json" >"$run.sha256" || fail "there is no model"
}

lines_of_log() { wc -l <"$log"; }
since() { tail -n +$(($1 + 1)) "$log"; }  # LINE
# begin NAME OPTIONS...: an attack that goes on beside others
begin() {
    local name=$1
    shift
    began[$name]=$(lines_of_log)
    timeout "$patience" "${hostile[@]}" "$@" >"$run/attack-$name.said" 2>"$run/attack-$name.log" &
    attack_pid[$name]=$!
}
# Lines that refuse one of the attack's connections, or the node itself.
refusals() {  # NAME NODE
    local ports
    ports=$(sed -n 's/^port //p' "$run/attack-$1.said" | paste -sd '|')
    since "${began[$1]}" | grep -E "(127\.0\.0\.1:(${ports:-0})( \([a-z0-9_-]+\))?|node ${2:--} \(client [0-9]+\) is) refused: " || true
}
expected_lines=0 repeated=() patience=60
refused_so_often() { [ "$(refusals "$1" "$2" | wc -l)" -ge "$3" ]; }
# judge NAME NODE LINES REASON: the attack has come to its end, and the log says why, or at least its answer does
judge() {
    local name=$1 node=$2 lines=$3 reason=$4 found
    wait "${attack_pid[$name]}" || fail "$name: $(<"$run/attack-$name.log")"
    unset "attack_pid[$name]"
    await 20 refused_so_often "$name" "$node" "$lines"
    found=$(refusals "$name" "$node")
    [ "$(grep -c . <<<"$found")" -eq "$lines" ] || fail "$name: expected $lines lines: $found"
    found=${found:-$(sed -n '/^told /p' "$run/attack-$name.said" | tail -1)}
    grep -qvE "(refused: |^told ).*$reason" <<<"$found" && fail "$name: expected '$reason' in: $found"
    expected_lines=$((expected_lines + lines))
    printf '%-22s | %-78s | %s\n' "$name" "$(head -1 <<<"$found" | sed 's/.* refused: //')" "$lines"
}
# attack NAME NODE LINES REASON ATTACK OPTIONS...
attack() {
    local name=$1 node=$2 lines=$3 reason=$4
    shift 4
    [ -z "$node" ] || set -- "$@" --as "$node"
    begin "$name" "$@"
    judge "$name" "$node" "$lines" "$reason"
    refusals "$name" "$node" | grep -q ' 127\.0\.0\.1:' && repeated+=("$*") || true
}
stranger() { attack "$1" "" 1 "$2" "$1"; }                               # ATTACK REASON
certificate() { attack "$1 certificate" "$1" 1 "$2" hello --client 4; }  # NAME REASON
member() { attack "$1" liar "${3:-1}" "$2" "$1" --client 4; }            # ATTACK REASON [LINES]
lie() { attack "$1" liar "${3:-1}" "$2" "$1" --client 4 --data "$dir/table-5.csv"; }

start quiet --set federation.rejoin=0s
for node in 1 2 3 4; do start_node $node; done
finish
echo "without attackers: $rounds rounds, model $(<"$run.sha256")"

start attacked
start_node 1
start_node 2
await 20 says 'node edge-1 .* has joined' "$log"
await 20 says 'node edge-2 .* has joined' "$log"
before=$(resident VmRSS)
printf '%-22s | %-78s | %s\n' attack "refused with" "log lines"

# What takes its time, with the certificates of edge-3 and edge-4 for those who are let in.
begin silence silence --at-once 32
begin client-hello client-hello
begin slow-handshake slow-handshake
begin no-hello no-hello --as edge-2
begin slow-body slow-body --as edge-3 --client 2
begin slow-header slow-header --as edge-4 --client 3

stranger random-bytes 'TLS: '
stranger plaintext 'TLS: wrong version number'
stranger http 'TLS: http request'
stranger old-tls 'TLS: unsupported protocol'
attack "no certificate" "" 1 'TLS: peer did not return a certificate' hello
certificate expired 'certificate has expired'
certificate foreign 'TLS: certificate verify failed'
certificate revoked 'certificate revoked'
certificate unlisted 'node unlisted is not allowed here'
certificate aggregator 'unsuitable certificate purpose'
attack early-leave liar 1 'it left without a hello' early-leave
attack other-name liar 1 'it calls itself liar-2, and its certificate does not' other-name
attack update-first liar 1 'a node says Hello first, not Update' update-first
attack large-hello liar 1 'a body of 65537 bytes exceeds the limit of 65536' large-hello
member random-frame 'a frame begins with "DTHR"'
member huge-length 'a body of 1152921504606846976 bytes exceeds the limit'
member half-frame 'it left in the middle of a frame'
member header-crc "the header's checksum is wrong"
member body-crc "the body's checksum is wrong"
member version 'protocol version [0-9]+ is spoken here, not [0-9]+'
member type 'message type 42 is unknown'
member flags 'the header has unknown flags'
member direction 'said RoundPlan, which only the aggregator says'
member hello-twice 'said hello twice'
member nan-loss 'Update.*train_loss.*not finite'
member nan-statistic 'Update.*grad_norm.*not finite'
member infinite-statistic 'Update.*grad_norm.*not finite'
member many-layers 'Update.*statistics'
member heartbeats 'this peer was not asked for client 4'
judge silence "" 32 'a handshake did not come within 5 s'
judge client-hello "" 1 'a handshake did not come within 5 s'
judge slow-handshake "" 1 'a handshake did not come within 5 s'
judge no-hello "" 1 'a hello did not come within 5 s'
judge slow-body edge-3 1 'bytes of a body in 1[0-9] s are fewer than 1024 a second'
judge slow-header edge-4 1 "a frame's header took more than 10 s"

# Round 1 waits for edge-4, whom an attacker replaces, and for the liar. Then each lie ends a round.
start_node 3
attack replay edge-4 1 'another update of this client was accepted in this round' replay --client 3 --data "$dir/table-4.csv"
start_node 4
lie other-base "it starts from another model than the round's"
lie fewer-layers 'it reports 1 layers, expected 2'
lie other-shapes "$codec payload"
lie cut-payload "$codec payload"
lie long-payload "$codec payload"
lie no-payload "$codec payload"
lie random-codes "$codec payload"
lie nan "$codec payload"
lie infinity "$codec payload"
lie no-samples 'it claims 0 samples'
lie many-samples 'it claims 1099511627776 samples'
lie other-steps 'it claims [0-9]+ steps for [0-9]+ samples'
lie stale-round 'this peer was not asked for client 4 in round'
lie early-round 'this peer was not asked for client 4 in round'
lie other-client 'this peer was not asked for client 0 in round'
begin duplicate duplicate --as edge-1 --client 0
wait "${attack_pid[duplicate]}" || fail "duplicate: $(<"$run/attack-duplicate.log")"
unset "attack_pid[duplicate]"
await 20 says 'this node has connected again; the next attempt in [456]' "$run/edge-1.log"
printf '%-22s | %-78s | %s\n' duplicate "edge-1 was told: $(sed -n 's/.*: \(this node has connected again\)/\1/p' "$run/edge-1.log")" 0
if [ -n "$short" ]; then
    kill -TERM "${node_pid[1]}"
    wait "${node_pid[1]}" || [ $? -eq 143 ] || fail "edge-1 did not stop cleanly"
    start_node 1
fi
found=$(grep -c ' refused: ' "$log")
[ "$found" -eq "$expected_lines" ] || fail "$found refusals in the log, expected $expected_lines"
after=$(resident VmRSS)
echo "memory: $before KiB before, $after KiB after these, $(resident VmHWM) KiB at most"
grows_at_most 8192 "$before" "$after" "by the attacks of the table"

# The same without end. The log names 120 of them a minute, and then how many it left out; the counter has them all.
refused=$(status .since_start.connections_refused)
for options in "${repeated[@]}"; do
    "${hostile[@]}" $options --times "$times" >/dev/null 2>"$run/attack.log" || fail "$options: $(<"$run/attack.log")"
done
attacks=$((times * ${#repeated[@]}))
found=$(($(status .since_start.connections_refused) - refused))
[ $found -eq $attacks ] || fail "$found connections were refused, expected $attacks"
again=$(resident VmRSS)
echo "$attacks more attacks, all refused: $again KiB, $((1024 * (again - after) / attacks)) bytes an attack; $(resident VmHWM) KiB at most"
grows_at_most 1024 "$after" "$again" "by $attacks attacks"
if [ "$flood" -gt 0 ]; then
    "${hostile[@]}" silence --at-once "$flood" >/dev/null
    flooded=$(resident VmRSS)
    "${hostile[@]}" silence --at-once "$flood" >/dev/null
    echo "$flood silent connections at once: $flooded KiB; once more: $(resident VmRSS) KiB, $(resident VmHWM) KiB at most"
    grows_at_most $((64 * 256)) "$again" "$flooded" "by the 256 connections that may be strangers at once"
    again=$(resident VmRSS)
    grows_at_most 1024 "$flooded" "$again" "by the second flood"
fi

# A lie a round, until there are no more. Nobody else noticed anything.
patience=3600 last=$again
begin lies lies --as liar --client 4 --data "$dir/table-5.csv"
while kill -0 "${attack_pid[lies]}" 2>/dev/null; do
    now=$(resident VmRSS 2>/dev/null) && last=${now:-$last}
    sleep 0.2
done
wait "${attack_pid[lies]}" || fail "lies: $(<"$run/attack-lies.log")"
unset "attack_pid[lies]"
lies=$(sed -n 's/^lies //p' "$run/attack-lies.said")
finish
echo "attacked: $rounds rounds, the last $lies with a lie each: $last KiB, model $(<"$run.sha256")"
grows_at_most 1024 "$again" "$last" "by $lies lies"
[ "$(since "${began[lies]}" | grep -c ' an update of node liar (client 4) is refused: ')" -eq "$lies" ] || fail "not one line a lie"
[ "$(jq -s 'map(select(.committed and .participants == 4)) | length' "$run/aggregator/rounds.jsonl")" -eq "$rounds" ] || fail "not $rounds rounds of four"
for node in 2 3 4; do
    [ "$(grep -c ' connected to ' "$run/edge-$node.log")" -eq 1 ] || fail "edge-$node lost its connection"
done
cmp -s "$dir/quiet.sha256" "$dir/attacked.sha256" || fail "the models differ"
