#!/usr/bin/env bash
# Runs a job over the machines of a hostfile with OpenMPI.
#
#     examples/cluster/run_mpirun.sh HOSTFILE JOB.toml [OPTIONS OF dither-simulate...]
#     BIN=/opt/dither/bin examples/cluster/run_mpirun.sh hosts examples/jobs/fashion_cnn2.toml --out /data/runs/one
#
# What every machine needs: the same OpenMPI, dither-simulate and the data at the same paths (a shared folder, or the Debian
# packages), and ssh from the first machine without a password. Only the first machine, where rank 0 is, writes the output
# folder. With error feedback or the strategy scaffold the ranks keep what their clients take from round to round in it, too:
# then it has to be a shared folder, or a client begins with nothing wherever it has not been before, and the model is another.
#
# The model does not depend on the machines: a run over any hostfile gives the bits of a run in one process (fp32 phases: on
# the same kind of processor).
#
# BIN      where dither-simulate is (build/release/bin)
# MPIRUN   more options of mpirun: "--mca btl_tcp_if_include eth0" where machines have networks that do not reach each other
set -euo pipefail
usage="usage: examples/cluster/run_mpirun.sh HOSTFILE JOB.toml [OPTIONS...]"
[ $# -ge 2 ] || { echo "$usage" >&2; exit 2; }
hosts=$1
shift
[ -f "$hosts" ] || { echo "$hosts: no such hostfile; $usage" >&2; exit 2; }

# One rank a slot, each on a core of its own: --bind-to core keeps a rank where its caches are. Every rank is one thread.
exec mpirun --hostfile "$hosts" --map-by slot --bind-to core ${MPIRUN:-} \
    "$(realpath "${BIN:-build/release/bin}")/dither-simulate" "$@"
