#!/bin/sh
# Device memory as seen from outside, by the audit layer: what the program reports is what it uses, the budget
# holds to the byte, everything is released, and scratch grows with the tokens, not with their square.
dir=$(mktemp -d "${TMPDIR:-/tmp}/castor-audit.XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
src=${srcdir:-.}
fail=0
bad() { echo "FAIL: $*"; fail=1; }

"$CASTOR" devices >/dev/null 2>&1 || { echo "skipped: no OpenCL device"; exit 77; }

# audited NAME command...: runs it under the layer; its report is $dir/NAME.json
audited() {
    name=$1
    shift
    OPENCL_LAYERS=$AUDIT_LAYER CASTOR_AUDIT_FILE=$dir/$name.json "$@" >"$dir/$name.out" 2>"$dir/$name.err" ||
        { bad "$name: exit $?"; cat "$dir/$name.err"; }
}
# figure NAME KEY: a number of the report
figure() { tr ',{}' '\n\n\n' <"$dir/$1.json" | sed -n "s/.*\"$2\": *\([0-9]*\).*/\1/p" | head -1; }
result() { tr ',{}' '\n\n\n' <"$dir/$1.out" | sed -n "s/.*\"$2\": *\([0-9]*\).*/\1/p" | head -1; }

audited probe "$CASTOR" devices --json
[ -s "$dir/probe.json" ] || { echo "skipped: this OpenCL loader knows no layers"; exit 77; }

model() { # positions
    cat >"$dir/model.json" <<J
{"model_type": "opt", "vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2, "ffn_dim": 256,
 "num_attention_heads": 4, "max_position_embeddings": 2048, "word_embed_proj_dim": 32, "do_layer_norm_before": false}
J
}
model

# Before anything is measured: buffers of the self-test and of the proofs of engines come and go at the first use.
"$CASTOR" train --config "$dir/model.json" --train "$src/data/sample/wiki.test.raw" --batch 2 --seq 64 --steps 1 --quiet >/dev/null || bad "first use"

check_run() { # NAME BUDGET
    peak=$(figure "$1" device_bytes_peak)
    said=$(result "$1" device_peak_bytes)
    [ -n "$peak" ] && [ "$peak" = "$said" ] || bad "$1: the layer saw $peak bytes, the program says $said"
    [ "$peak" -le "$2" ] || bad "$1: $peak bytes, budget $2"
    [ "$(figure "$1" buffers_alive)" = 0 ] || bad "$1: buffers left at the end"
    grep '"alive"' "$dir/$1.json" | grep -q '[1-9]' && bad "$1: objects left at the end: $(grep '"alive"' "$dir/$1.json")"
    [ "$(figure "$1" device_bytes_live)" = 0 ] || bad "$1: device bytes left at the end"
}

# check_plan NAME options...: castor plan, in a process of its own, says to the byte what NAME's run took
check_plan() {
    run=$1
    shift
    "$CASTOR" plan --config "$dir/model.json" --batch 2 --seq 64 --device "$device" --json "$@" >"$dir/plan.out" 2>"$dir/plan.err" ||
        { bad "plan $*: exit $?"; cat "$dir/plan.err"; }
    [ "$(result plan peak_bytes)" = "$(figure "$run" device_bytes_peak)" ] ||
        bad "plan $*: $(result plan peak_bytes) bytes, the layer saw $(figure "$run" device_bytes_peak) in $run"
}
device=${CASTOR_DEVICE:-0}

for p in resident static; do
    audited train-$p "$CASTOR" train --config "$dir/model.json" --train "$src/data/sample/wiki.test.raw" --batch 2 --seq 64 \
        --steps 4 --eval-every 2 --valid "$src/data/sample/wiki.valid.raw" --placement $p --json
    check_run train-$p 1000000000
    check_plan train-$p --placement $p --device-mem 1000000000
done
audited away "$CASTOR" train --config "$dir/model.json" --train "$src/data/sample/wiki.test.raw" --batch 2 --seq 64 --steps 6 --placement static \
    --offload-param 1 --eval-every 0 --json
check_run away 1000000000
check_plan away --placement static --offload-param 1 --device-mem 1000000000
audited accum "$CASTOR" train --config "$dir/model.json" --train "$src/data/sample/wiki.test.raw" --batch 2 --seq 64 --accum 4 --steps 2 \
    --eval-every 0 --json
check_run accum 1000000000
check_plan accum --accum 4 --device-mem 1000000000
[ "$(figure train-static device_bytes_peak)" -lt "$(figure train-resident device_bytes_peak)" ] || bad "state on the host saves nothing"

# The smallest budget, exactly.
least=$("$CASTOR" train --config "$dir/model.json" --train "$src/data/sample/wiki.test.raw" --batch 2 --seq 64 --steps 4 \
    --device-mem 64KiB 2>&1 | sed -n 's/.*tokens is \([0-9]*\) bytes.*/\1/p')
audited least "$CASTOR" train --config "$dir/model.json" --train "$src/data/sample/wiki.test.raw" --batch 2 --seq 64 --steps 4 \
    --eval-every 0 --device-mem "$least" --json
check_run least "$least"
check_plan least --device-mem "$least"

# Migrating: in a part of what the run above took, never a byte more; and from one length of run to another the layer sees as
# many bytes more as the program counts, to the byte (what is measured at the start moves in both).
whole=$(figure train-resident device_bytes_peak)
for part in 60 45; do
    for steps in 6 12; do
        audited part-$part-$steps env CASTOR_AUDIT_LIMIT=$((whole * part / 100)) "$CASTOR" train --config "$dir/model.json" \
            --train "$src/data/sample/wiki.test.raw" --batch 2 --seq 64 --steps $steps --eval-every 0 \
            --device-mem $((whole * part / 100)) --json --out "$dir/run-$part-$steps"
        check_run part-$part-$steps $((whole * part / 100))
        grep -q '"over_limit": *false' "$dir/part-$part-$steps.json" || bad "part-$part-$steps: over its limit"
        check_plan part-$part-$steps --device-mem $((whole * part / 100))
    done
    for key in h2d_bytes d2h_bytes; do
        seen=$(($(figure part-$part-12 $key) - $(figure part-$part-6 $key)))
        said=$(($(result part-$part-12 $key) - $(result part-$part-6 $key)))
        [ "$seen" = "$said" ] || bad "$part %: the longer run moves $seen $key more, the program says $said"
        a=$(sed -n "s/.*\"$key\": \([0-9]*\).*/\1/p" "$dir/run-$part-6/metrics.jsonl" | awk '{s += $1} END {print s}')
        b=$(sed -n "s/.*\"$key\": \([0-9]*\).*/\1/p" "$dir/run-$part-12/metrics.jsonl" | awk '{s += $1} END {print s}')
        [ $((b - a)) -gt 100000 ] || bad "$part %: nothing moves"
    done
done

audited evaluated "$CASTOR" train --config "$dir/model.json" --train "$src/data/sample/wiki.test.raw" --batch 2 --seq 64 --steps 4 \
    --eval-every 2 --valid "$src/data/sample/wiki.valid.raw" --device-mem $((whole * 45 / 100)) --json
check_run evaluated $((whole * 45 / 100))

# Bytes moved: the counters of metrics.jsonl are the transfers that were enqueued.
audited moved "$CASTOR" train --config "$dir/model.json" --train "$src/data/sample/wiki.test.raw" --batch 2 --seq 64 --steps 4 \
    --eval-every 0 --placement static --json --out "$dir/run"
h2d=$(sed -n 's/.*"h2d_bytes": \([0-9]*\).*/\1/p' "$dir/run/metrics.jsonl" | awk '{s += $1} END {print s}')
params=$("$CASTOR" train --config "$dir/model.json" --train "$src/data/sample/wiki.test.raw" --batch 2 --seq 64 --steps 1 2>&1 |
    sed -n 's/^ *\([0-9]*\) parameters.*/\1/p')
want=$((h2d + 4 * params + 4 * params)) # the start's weights besides, and the last step's, which go up when training ends
[ "$(figure moved h2d_bytes)" = "$want" ] || bad "the layer saw $(figure moved h2d_bytes) bytes go up, the program counted $want"

# Scratch at 2,048 tokens at most 2.1 times that at 1,024.
state=$((16 * params))
for t in 1024 2048; do
    audited scratch-$t "$CASTOR" bench step --config "$dir/model.json" --batch 1 --seq $t --steps 1 --json
    check_run scratch-$t 1000000000
done
a=$(($(figure scratch-1024 device_bytes_peak) - state))
b=$(($(figure scratch-2048 device_bytes_peak) - state))
[ $((b * 10)) -le $((a * 21)) ] || bad "scratch grows from $a to $b bytes when the tokens double"
echo "scratch: $a bytes at 1,024 tokens, $b at 2,048"

[ $fail = 0 ] && echo "ok"
exit $fail
