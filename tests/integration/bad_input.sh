#!/usr/bin/env bash
# Whatever is wrong with a command, a job or its data is said by name, with exit code 2 and nothing written.
source "$(dirname "$0")/lib.sh"
out=$work/never

bad() {  # PATTERN ARGUMENTS...
    local pattern=$1
    shift
    refuses 2 "$pattern" simulate "$work/job.toml" --out "$out" "$@"
    [ ! -e "$out" ] || fail "wrote something: $*"
}
bad_line() {  # PATTERN TOML
    local pattern=$1
    { cat "$work/job.toml"; printf '%b' "$2"; } >"$work/bad.toml"
    refuses 2 "$pattern" simulate "$work/bad.toml" --out "$out"
    [ ! -e "$out" ] || fail "wrote something: $2"
}

bad_line 'bad\.toml:19:.*codec\.uplnk.*uplink' '[codec]\nuplnk = "raw"\n'
bad_line 'bad\.toml:18' '[codec\n'
bad 'federation\.cohrt.*cohort' --set federation.cohrt=3
bad 'job\.rounds.*integer' --set 'job.rounds="many"'
bad 'federation\.cohort.*13.*12' --set federation.cohort=13
bad 'federation\.clients' --set federation.clients=0
bad 'does not survive so many liars' --set federation.aggregation.kind=bulyan --set federation.cohort=5
bad 'federation\.clients' --set federation.clients=100000 --set federation.cohort=5
bad 'precision\.bits' --set precision.policy=uniform --set precision.bits=5
bad 'precision\.levels' --set 'precision.levels=[1, 8, 32]'
bad 'precision\.policy.*numgeom' --set precision.policy=numgem
bad 'codec\.uplink\.bits' --set codec.uplink.bits=77
bad 'model.*cnn2.*image|cnn2' --set model.name=cnn2
bad 'no-such\.csv' --set data.path="$work/no-such.csv"
refuses 2 'no-such\.toml' simulate "$work/no-such.toml" --out "$out"
refuses 2 'JOB' simulate --out "$out"
refuses 2 'frobnicate' simulate "$work/job.toml" --frobnicate
bad 'no checkpoint|resume' --resume

# Data files: missing, truncated, wrong magic, label out of range.
idx=$work/idx
make_idx() {
    rm -rf "$idx"
    mkdir "$idx"
    for split in train t10k; do
        printf '\x00\x00\x08\x03\x00\x00\x00\x28\x00\x00\x00\x04\x00\x00\x00\x04' >"$idx/$split-images-idx3-ubyte"
        head -c 640 /dev/zero | tr '\0' 'x' >>"$idx/$split-images-idx3-ubyte"
        printf '\x00\x00\x08\x01\x00\x00\x00\x28' >"$idx/$split-labels-idx1-ubyte"
        for _ in 1 2 3 4; do printf '\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09'; done >>"$idx/$split-labels-idx1-ubyte"
    done
}
bad_idx() { bad "$1" --set data.format=idx --set data.path="$idx" --set model.name=linear --set federation.partition.kind=iid; }
make_idx
simulate "$work/job.toml" --out "$work/good-idx" --set data.format=idx --set data.path="$idx" --set job.rounds=1 \
    --set federation.partition.kind=iid >/dev/null || fail "the made-up IDX files do not train"
rm "$idx/train-labels-idx1-ubyte"; bad_idx 'train-labels-idx1-ubyte'
make_idx; truncate -s 300 "$idx/train-images-idx3-ubyte"; bad_idx 'train-images-idx3-ubyte.*(trunc|656|300)'
make_idx; printf '\x00\x00\x09' | dd of="$idx/t10k-images-idx3-ubyte" conv=notrunc status=none; bad_idx 't10k-images-idx3-ubyte.*magic'
make_idx; printf '\xc8' | dd of="$idx/train-labels-idx1-ubyte" bs=1 seek=20 conv=notrunc status=none; bad_idx 'train-labels-idx1-ubyte.*200'

# Tables: a column of text. Groups: a file that does not match the samples, and one with fewer groups than clients.
{ echo 'a,city,y'; printf '1,2,0\n3,Paris,1\n'; } >"$work/text.csv"
bad 'text\.csv:3:3.*Paris.*"city"' --set data.path="$work/text.csv"
groups() { bad "$1" --set federation.partition.kind=natural --set data.groups="$work/groups.txt"; }
bad 'data\.groups' --set federation.partition.kind=natural
groups 'data\.groups.*groups\.txt'
seq 399 >"$work/groups.txt"; groups 'groups\.txt: expected 400 lines.*399'
seq 400 | sed 's/.*/someone/' >"$work/groups.txt"; groups 'federation\.clients = 12.*1 groups'
seq 400 >"$work/groups.txt"
simulate "$work/job.toml" --out "$work/natural" --set job.rounds=1 --set federation.partition.kind=natural \
    --set data.groups="$work/groups.txt" >/dev/null || fail "a table with a file of groups does not train"
bad 'federation\.partition\.shards.*federation\.clients' --set 'federation.partition={kind="shards",shards=40}'
bad 'federation\.partition\.samples = 401 of each client' --set 'federation.partition={kind="resampled",samples=401}'
bad 'federation\.clients = 401 .*"resampled" draws samples' --set federation.clients=401 --set federation.partition.kind=iid
bad 'federation\.partition\.classes = 4.*3 classes' --set 'federation.partition={kind="pathological",classes=4}'

# Output folders: one that holds a run, one in use, and a checkpoint of another job.
simulate "$work/job.toml" --out "$work/run" --set job.rounds=2 >/dev/null
before=$(sha256sum "$work"/run/* | sort)
refuses 2 'already holds a run' simulate "$work/job.toml" --out "$work/run"
refuses 2 'another job' simulate "$work/job.toml" --out "$work/run" --resume --set train.optimizer.lr=0.2
printf 'x' >"$work/run-damaged"; cp -r "$work/run" "$work/damaged"; truncate -s -40 "$work/damaged/model.dither"
refuses 2 'model\.dither' simulate "$work/job.toml" --out "$work/damaged" --resume
exec 9>"$work/run/.lock"; flock -n 9
refuses 2 'in use' simulate "$work/job.toml" --out "$work/run" --resume
exec 9>&-
[ "$before" = "$(sha256sum "$work"/run/* | sort)" ] || fail "a refused command changed a finished run"

# A loss that is not finite stops the run with its cause, not with a model.
refuses 1 'client [0-9]+, round [0-9]+.*(loss is|not finite)' simulate "$work/job.toml" --out "$work/nan" \
    --set train.optimizer.lr=1e30 --set precision.policy=fp32 --set train.epochs=8
