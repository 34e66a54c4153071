#!/bin/sh
# Runs that stop, are killed, or run out of disk, and go on: the same numbers to the bit as the run that nothing stopped.
src=${srcdir:-.}
case $src in /*) ;; *) src=$(pwd)/$src ;; esac
dir=$(mktemp -d "${TMPDIR:-/tmp}/castor-resume.XXXXXX") || exit 99
mounted=
trap '[ -n "$mounted" ] && umount "$dir/disk"; rm -rf "$dir"' EXIT
fail=0
bad() { echo "FAIL: $*"; [ -s "$dir/err" ] && sed 's/^/    /' "$dir/err"; fail=1; }
"$CASTOR" devices >/dev/null 2>&1 || { echo "skipped: no OpenCL device"; exit 77; }

cat >"$dir/tiny.json" <<J
{"model_type": "opt", "vocab_size": 272, "hidden_size": 32, "num_hidden_layers": 2, "ffn_dim": 64,
 "num_attention_heads": 2, "max_position_embeddings": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": false}
J
steps=40
# Dropout is on (the configuration's 0.1), and the steps are more than an epoch, so the order of the text changes.
head -c 2500 "$src/data/sample/wiki.test.raw" >"$dir/train.txt"
head -c 700 "$src/data/sample/wiki.valid.raw" >"$dir/valid.txt"
run="--config $dir/tiny.json --train $dir/train.txt --valid $dir/valid.txt --batch 2 --seq 16 --accum 3 --lr 3e-3 --eval-every 8 --quiet"

train() { "$CASTOR" train "$@" >"$dir/outp" 2>"$dir/err" </dev/null; }
# refused STATUS WORDS options...
refused() {
    want=$1 words=$2
    shift 2
    train "$@"
    got=$?
    [ $got = "$want" ] || bad "train $*: exit $got, wanted $want"
    grep -q -- "$words" "$dir/err" || bad "train $*: stderr lacks \"$words\""
}
# What a step computed: step, loss, learning rate, gradient norm, validation loss.
numbers() { sed 's/"tokens_per_s.*d2h_bytes": [0-9]*//' "$1/metrics.jsonl"; }
# same NAME: the run's numbers, its final and its best model are the uninterrupted run's
same() {
    numbers "$dir/$1" | cmp -s - "$dir/numbers" || bad "$1: other numbers: $(numbers "$dir/$1" | diff - "$dir/numbers" | head -4)"
    for f in model.safetensors best/model.safetensors; do cmp -s "$dir/$1/$f" "$dir/whole/$f" || bad "$1: another $f"; done
}

train $run --steps $steps --out "$dir/whole" || bad "the uninterrupted run"
numbers "$dir/whole" >"$dir/numbers"
[ "$(wc -l <"$dir/numbers")" = $steps ] || bad "metrics.jsonl hasn't $steps lines"
grep -c valid_loss "$dir/numbers" | grep -q 5 || bad "not 5 evaluations"

# Stopped and gone on with, in every placement, as often as one likes; from a place that isn't the run's.
for p in resident-static static-resident; do
    train $run --steps $steps --out "$dir/$p" --stop-after 7 --placement ${p%-*} || bad "$p: first part"
    [ -e "$dir/$p/checkpoint-7/complete" ] || bad "$p: no checkpoint where it stopped"
    (cd / && train --resume "$dir/$p" --stop-after 19 --placement ${p#*-}) || bad "$p: second part"
    train --resume "$dir/$p" --placement auto --recompute layer || bad "$p: last part"
    same $p
done
# The command as it was, with --resume; data that moved; a checkpoint by its own name, into another folder.
rm -r "$dir/resident-static/checkpoint-19"
mv "$dir/train.txt" "$dir/moved.txt"
refused 1 "train.txt: No such file" --resume "$dir/resident-static"
train --resume "$dir/resident-static" --train "$dir/moved.txt" --quiet || bad "moved data"
same resident-static
mv "$dir/moved.txt" "$dir/train.txt"
train --resume "$dir/resident-static/checkpoint-7" $run --steps $steps --out "$dir/branch" --save-every 10 --keep 2 || bad "a branch"
same branch
[ "$(cd "$dir/branch" && echo checkpoint-*)" = "checkpoint-20 checkpoint-30" ] || bad "--keep 2 left $(ls "$dir/branch")"
# A checkpoint is a model too.
train --model "$dir/branch/checkpoint-20" --train "$dir/train.txt" --batch 2 --seq 16 --steps 1 --quiet || bad "--model with a checkpoint"
# Going back: later checkpoints are made again.
train --resume "$dir/branch/checkpoint-20" --stop-after 25 --quiet || bad "going back"
[ "$(cd "$dir/branch" && echo checkpoint-*)" = "checkpoint-20 checkpoint-25" ] || bad "going back left $(ls "$dir/branch")"

# Options that matter are named, all in one message; nothing changes.
cp -r "$dir/branch" "$dir/kept"
"$CASTOR" tokenizer train --vocab-size 265 --out "$dir/tok" "$dir/train.txt" >/dev/null 2>"$dir/err" || bad "tokenizer train"
refused 2 'steps 50 (was 40).*batch 4 (was 2).*accum 1 (was 3).*lr 0.001 (was 0.003).*seed 7 (was 42)' --resume "$dir/branch" --batch 4 --lr 1e-3 \
    --seed 7 --accum 1 --steps 50
for option in "--seq 8" "--schedule cosine" "--warmup 9" "--beta1 0.8" "--beta2 0.99" "--eps 1e-6" "--weight-decay 0" "--clip 2" "--dropout 0" \
    "--no-shuffle no-shuffle" "--epochs 1 steps" "--gemm clblast" "--train $dir/valid.txt train.tokens" "--valid $dir/train.txt valid.tokens" \
    "--tokenizer $dir/tok tokenizer" "--config 125m config.hidden_size"; do
    set -- $option
    name=${3:-${1#--}}
    case $1 in --no-shuffle) name=$2; set -- $1 ;; esac
    refused 2 "settings differ.*$name .*(was" --resume "$dir/branch" $1 $2
done
refused 2 "the checkpoint is of step 25" --resume "$dir/branch" --stop-after 20
refused 2 "has checkpoints of another run" $run --steps 5 --out "$dir/branch"
refused 1 "no complete checkpoint" --resume "$dir/whole"
refused 1 "none: No such file" --resume "$dir/none"
diff -r -x cache "$dir/branch" "$dir/kept" >/dev/null || bad "a refusal changed the run's folder"

# Ctrl-C, and go on.
"$CASTOR" train $run --steps 2000 --schedule constant --out "$dir/stop" >/dev/null 2>"$dir/err" &
pid=$!
i=0
while [ $i -lt 300 ] && ! [ -s "$dir/stop/metrics.jsonl" ]; do sleep 0.1; i=$((i + 1)); done
kill -INT $pid
wait $pid
[ $? = 130 ] || bad "Ctrl-C: exit status isn't 130"
at=$(wc -l <"$dir/stop/metrics.jsonl")
[ -e "$dir/stop/checkpoint-$at/complete" ] || bad "Ctrl-C: no checkpoint of step $at"
grep -q "go on with: castor train --resume $dir/stop" "$dir/err" || bad "Ctrl-C: it doesn't say how to go on"
train --resume "$dir/stop" --stop-after $((at + 2)) --quiet || bad "after Ctrl-C"
[ "$(wc -l <"$dir/stop/metrics.jsonl")" = $((at + 2)) ] || bad "after Ctrl-C: metrics.jsonl doesn't go on"

# A loss that isn't finite: the step, the tensor, and what was saved before.
refused 1 'step [0-9]*: the loss is not a finite number.*"model.decoder' $run --steps 9 --lr 1e38 --warmup 6 --save-every 1 --clip 0 \
    --out "$dir/nan"
refused 1 'step [0-9]*: the loss is not a finite number.*"model.decoder.layers.1' $run --steps 9 --lr 1e38 --warmup 6 --clip 0 \
    --freeze '*.embed_*,*.project_*,*.layers.0.*' --out "$dir/nan-frozen"
grep -q '"message": ".*not a finite number' "$dir/nan-frozen/run.json" ||
    bad "run.json doesn't tell of the loss"

# SIGKILL at 20 random moments, every other one while a checkpoint is being written. Each time the run goes on from its
# last complete checkpoint; the numbers of all its steps are those of the run that nobody killed.
kills=0 saving=0 runs=0 i=0
while [ $kills -lt 20 ] && [ $i -lt 80 ]; do
    i=$((i + 1))
    if ! [ -d "$dir/killed" ]; then set -- $run --steps $steps --save-every 1 --keep 2 --out "$dir/killed"
    elif ls -d "$dir"/killed/checkpoint-*/complete >/dev/null 2>&1; then set -- --resume "$dir/killed" --quiet \
        --save-every $((i % 2 * 3 + 1))
    else rm -rf "$dir/killed"; continue; fi
    "$CASTOR" train "$@" >"$dir/outp" 2>"$dir/err" </dev/null &
    pid=$!
    sleep "0.$(od -An -N2 -tu2 /dev/urandom | awk '{printf "%03d", 100 + $1 % 700}')"
    if [ $((i % 2)) = 0 ]; then
        n=0
        while [ $n -lt 500 ] && kill -0 $pid 2>/dev/null && ! ls -d "$dir"/killed/.checkpoint-*.tmp-* >/dev/null 2>&1; do n=$((n + 1)); done
    fi
    kill -KILL $pid 2>/dev/null
    wait $pid 2>/dev/null
    got=$?
    ls -d "$dir"/killed/.checkpoint-*.tmp-* >/dev/null 2>&1 && saving=$((saving + 1))
    case $got in
    137) kills=$((kills + 1)) ;;
    0)
        same killed
        runs=$((runs + 1))
        rm -rf "$dir/killed"
        continue ;;
    *) bad "a run that was to be killed ended with $got" ;;
    esac
    # What is there so far, but for a line that was being written, is how the uninterrupted run began.
    for c in "$dir"/killed/checkpoint-*; do
        [ -e "$c/complete" ] || continue
        n=${c##*-}
        head -$n "$dir/numbers" >"$dir/head"
        numbers "$dir/killed" | head -$n | cmp -s - "$dir/head" || bad "kill $kills: the steps up to checkpoint $n differ"
    done
done
[ $kills = 20 ] || bad "only $kills runs were killed"
[ $saving -gt 0 ] || bad "no run was killed while saving"
if [ -d "$dir/killed" ]; then
    if ls -d "$dir"/killed/checkpoint-*/complete >/dev/null 2>&1; then train --resume "$dir/killed" --quiet || bad "after the last kill"
    else # killed before its first checkpoint was whole
        rm -rf "$dir/killed"
        train $run --steps $steps --save-every 1 --keep 2 --out "$dir/killed" || bad "anew after the last kill"
    fi
    same killed
    ls -d "$dir"/killed/.[a-z]* 2>/dev/null && bad "hidden folders were left"
    runs=$((runs + 1))
fi
echo "$kills kills, $saving of them while saving; $runs runs came to their end"

# A disk that gets full: the older checkpoint survives. A limit on the size of files needs no root.
train $run --steps 10 --stop-after 3 --out "$dir/full" || bad "before the limit"
cp -r "$dir/full/checkpoint-3" "$dir/kept3"
(ulimit -f 300; refused 1 "optimizer.safetensors: File too large" --resume "$dir/full" --save-every 2 --quiet; exit $fail) || fail=1
[ "$(cd "$dir/full" && echo checkpoint-* .checkpoint-*)" = "checkpoint-3 .checkpoint-*" ] || bad "over the limit: $(ls -A "$dir/full")"
diff -r "$dir/full/checkpoint-3" "$dir/kept3" >/dev/null || bad "over the limit: the older checkpoint changed"
train --resume "$dir/full" --quiet || bad "after the limit"
head -10 "$dir/full/metrics.jsonl" | wc -l | grep -q 10 || bad "after the limit: metrics.jsonl"

mkdir "$dir/disk"
if mount -t tmpfs -o size=12m castor-test "$dir/disk" 2>/dev/null; then
    mounted=1
    train $run --steps 20 --stop-after 3 --out "$dir/disk/run" || bad "on a small disk"
    head -c 9m /dev/zero >"$dir/disk/ballast"
    refused 1 "disk is too full: [0-9]* bytes .* are needed, [0-9]* .* are free" --resume "$dir/disk/run" --save-every 2 --quiet
    [ -e "$dir/disk/run/checkpoint-3/complete" ] || bad "full disk: the older checkpoint is gone"
    train --resume "$dir/disk/run" --stop-after 5 --quiet && bad "full disk: nothing was said"
    [ "$(cd "$dir/disk/run" && echo checkpoint-* .checkpoint-*)" = "checkpoint-3 .checkpoint-*" ] || bad "full disk: $(ls -A "$dir/disk/run")"
    rm "$dir/disk/ballast"
    mount -o remount,ro "$dir/disk"
    refused 1 "Read-only file system" --resume "$dir/disk/run" --stop-after 5 --quiet
    refused 1 "Read-only file system" $run --steps 2 --out "$dir/disk/other"
    mount -o remount,rw "$dir/disk"
    train --resume "$dir/disk/run" --quiet || bad "after the full disk"
    train $run --steps 20 --out "$dir/disk/whole" || bad "a whole run on a small disk"
    cmp -s "$dir/disk/run/model.safetensors" "$dir/disk/whole/model.safetensors" || bad "after the full disk: another model"
else
    echo "left out: the small disk (mounting one needs root)"
    if [ "$(id -u)" != 0 ]; then
        chmod 555 "$dir/full"
        refused 1 "Permission denied" --resume "$dir/full" --quiet
        chmod 755 "$dir/full"
    fi
fi

[ $fail = 0 ] && echo "ok"
exit $fail
