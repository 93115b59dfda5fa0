#!/usr/bin/env bash
# A run over two "hosts" gives the model and the rounds of a run in one process. The hosts are this machine under two names
# that mpirun does not know as its own: it starts an OpenMPI daemon for each through the agent that would be ssh, and ranks of
# different daemons talk TCP.
source "$(dirname "$0")/lib.sh"
export ASAN_OPTIONS=detect_leaks=0  # OpenMPI leaks by design

# Each host has temporary files of its own: two daemons that set up one session folder get in each other's way.
cat >"$work/agent.sh" <<AGENT
#!/bin/sh
echo "\$1" >>"$work/started"
export TMPDIR="$work/\$1"
mkdir "\$TMPDIR"
shift
exec /bin/sh -c "\$*"
AGENT
chmod +x "$work/agent.sh"
cat >"$work/hosts" <<HOSTS
127.0.0.2 slots=1
127.0.0.3 slots=2
HOSTS

simulate "$work/job.toml" --out "$work/alone" >/dev/null
# As people start it, but that there may be fewer cores than ranks, and only the loopback between the hosts.
BIN=$bin MPIRUN="--mca plm_rsh_agent $work/agent.sh --bind-to none --mca btl self,tcp --mca btl_tcp_if_include lo" \
    examples/cluster/run_mpirun.sh "$work/hosts" "$work/job.toml" --quiet --out "$work/hosts2" \
    --set output.pictures=false >/dev/null
[ "$(sort "$work/started" | tr '\n' ' ')" = "127.0.0.2 127.0.0.3 " ] || fail "no daemon for each host: $(cat "$work/started")"
[ "$(jq .ranks "$work/hosts2/summary.json")" -eq 3 ] || fail "not 3 ranks"
[ "$(hash_of "$work/hosts2")" = "$(hash_of "$work/alone")" ] || fail "two hosts give another model"
diff <(rounds_of "$work/alone") <(rounds_of "$work/hosts2") || fail "two hosts report other rounds"
refuses 2 'no such hostfile' examples/cluster/run_mpirun.sh "$work/nowhere" "$work/job.toml"
