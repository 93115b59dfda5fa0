#!/usr/bin/env bash
# fp32 training against a bare PyTorch FedAvg loop with the same settings: CNN-2, Fashion-MNIST, 100 IID clients, 10 a round, 20
# rounds, batch 32, SGD 0.05 with momentum 0.9. Prints mean and deviation of the final accuracy of each over the seeds.
# Finished runs in OUT are kept.
#
#     tests/bench/accuracy_peer.sh PEER_SCRIPT OUT [SEEDS]       PEER_SCRIPT: a fedavg_torch.py; needs python3-torch
set -euo pipefail
cd "$(dirname "$0")/../.."
peer=$1
out=$2
seeds=${3:-5}
mkdir -p "$out"
for seed in $(seq "$seeds"); do
    [ -s "$out/torch-$seed.json" ] ||
        OMP_NUM_THREADS=1 /usr/bin/python3 "$peer" --rounds 20 --seed "$seed" >"$out/torch-$seed.json"
    [ -s "$out/dither-$seed/summary.json" ] || {
        rm -rf "$out/dither-$seed"
        build/release/bin/dither-simulate examples/jobs/fashion_cnn2.toml --quiet --out "$out/dither-$seed" \
            --set job.seed="$seed" --set job.evaluate_every=20 --set federation.partition.kind=iid \
            --set precision.policy=fp32 --set noise.kind=none --set codec.uplink.kind=raw \
            --set codec.downlink.kind=raw --set output.pictures=false >/dev/null
    }
done
moments() { awk '{n++; s += $1; q += $1 * $1} END {m = s / n; printf "%.2f +- %.2f\n", m, sqrt((q - n * m * m) / (n - 1))}'; }
echo -n 'PyTorch fp32: '; jq '.accuracy * 100' "$out"/torch-*.json | moments
echo -n 'Dither fp32:  '; jq '.final_accuracy * 100' "$out"/dither-*/summary.json | moments
