#!/bin/sh
# The program as its user meets it: results on stdout, status on stderr, exit statuses, clear errors.
src=${srcdir:-.}
case $src in /*) ;; *) src=$(pwd)/$src ;; esac
dir=$(mktemp -d "${TMPDIR:-/tmp}/castor-cli.XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
fail=0
bad() { echo "FAIL: $*"; sed 's/^/    /' "$dir/err"; fail=1; }

# expect STATUS WORDS command...: exit status, and words on stderr (or stdout for 0)
expect() {
    want=$1 words=$2
    shift 2
    "$@" >"$dir/outp" 2>"$dir/err" </dev/null
    got=$?
    [ $got = "$want" ] || bad "$* : exit $got, wanted $want"
    if [ "$want" = 0 ]; then grep -q -- "$words" "$dir/outp" || bad "$* : stdout lacks \"$words\""
    else
        grep -q -- "$words" "$dir/err" || bad "$* : stderr lacks \"$words\""
        [ -s "$dir/outp" ] && bad "$* : something on stdout though it failed"
    fi
}

"$CASTOR" devices >/dev/null 2>&1 || { echo "skipped: no OpenCL device"; exit 77; }

expect 0 "usage: castor" "$CASTOR" --help
expect 0 "castor [0-9]" "$CASTOR" --version
expect 0 "--batch N" "$CASTOR" train --help
expect 0 "default" "$CASTOR" devices
expect 0 '"platform"' "$CASTOR" devices --json
expect 0 '"quirks"' "$CASTOR" devices --json
expect 0 "There is a device that Castor can use" "$CASTOR" devices --doctor
expect 0 '"findings"' "$CASTOR" devices --doctor --json
OCL_ICD_VENDORS=$dir/nowhere OCL_ICD_FILENAMES= "$CASTOR" devices --doctor >"$dir/outp" 2>"$dir/err"
[ $? = 1 ] || bad "devices --doctor without a driver: wanted exit 1"
grep -q "OCL_ICD_VENDORS is set to" "$dir/outp" || bad "devices --doctor doesn't name OCL_ICD_VENDORS"
OCL_ICD_VENDORS=$dir/nowhere OCL_ICD_FILENAMES= expect 1 "devices --doctor" "$CASTOR" devices
expect 2 "usage" "$CASTOR"
expect 2 "no such command" "$CASTOR" fly
expect 2 "bench fly: no such command" "$CASTOR" bench fly
expect 2 "no such option" "$CASTOR" train --bacth 3
expect 2 "no such option" "$CASTOR" devices --batch 3
expect 2 "begin with --" "$CASTOR" train data
expect 2 "is missing" "$CASTOR" train --batch
expect 2 "1 or more" "$CASTOR" train --batch 0
expect 2 "whole number" "$CASTOR" train --batch 2.5
expect 2 "takes no value" "$CASTOR" train --no-shuffle=1
expect 2 "384MiB" "$CASTOR" train --device-mem lots
expect 2 "linear|cosine|constant" "$CASTOR" train --schedule step
expect 2 "needs --model DIR or --config" "$CASTOR" train
expect 2 "needs --data DIR or --train" "$CASTOR" train --config 125m
expect 2 "350m" "$CASTOR" train --config opt-9000b --data "$src/data/sample"
expect 2 "below 1" "$CASTOR" train --config 125m --data "$src/data/sample" --dropout 1

cat >"$dir/tiny.json" <<J
{"model_type": "opt", "vocab_size": 272, "hidden_size": 32, "num_hidden_layers": 2, "ffn_dim": 64,
 "num_attention_heads": 2, "max_position_embeddings": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": false}
J
tiny="--config $dir/tiny.json --train $src/data/sample/wiki.test.raw --batch 2 --seq 16"

expect 1 "no platform or device has it" "$CASTOR" train $tiny --steps 1 --device nonexistent

# A kernel that computes wrong results, with nothing to stand in for it: refused before anything is written, twice.
mkdir "$dir/cl" && cp "$src"/cl/* "$dir/cl/" && chmod u+w "$dir"/cl/*
sed 's/j < n; j++) y\[j\] = value/j + 1 < n; j++) y[j] = value/' "$src/cl/fill.cl" >"$dir/cl/fill.cl"
for again in 1 2; do
    CASTOR_CL_DIR=$dir/cl CASTOR_CACHE_DIR=$dir/kernels expect 2 "cl/fill.cl don't work" "$CASTOR" train $tiny --steps 1 --out "$dir/wrong"
    grep -c building "$dir/err" >"$dir/built.$again"
done
[ "$(cat "$dir/built.1")" -ge 1 ] && [ "$(cat "$dir/built.2")" = 0 ] || bad "the self-test's verdict isn't kept"
[ ! -e "$dir/wrong/config.json" ] || bad "a refused device left a model"
expect 2 "exclude each other" "$CASTOR" train $tiny --steps 1 --epochs 1
expect 2 "positions for 64 tokens" "$CASTOR" train $tiny --seq 65 --steps 1
for n in 0 -1 1 x 1e3 9999999999999999999999; do expect 2 "seq $n: a whole number of 2 or more" "$CASTOR" train $tiny --seq=$n --steps 1; \
    done
for o in batch accum steps host-threads; do for n in 0 -1 -9223372036854775809; do
    expect 2 "$o $n: a whole number of 1 or more" "$CASTOR" train $tiny --$o=$n
done; done
for n in 0 -1 1XB -5MiB nan; do expect 2 "device-mem $n: a size as 384MiB" "$CASTOR" train $tiny --device-mem=$n --steps 1; done
for n in -1 nan inf 1e999; do expect 2 "lr $n: a number of 0 or more" "$CASTOR" train $tiny --lr=$n --steps 1; done
expect 1 "no platform or device has it" "$CASTOR" bench step --config "$dir/tiny.json" --device nonexistent
expect 1 "device 99" "$CASTOR" train $tiny --steps 1 --device 99
expect 2 "the run has 4 steps" "$CASTOR" train $tiny --steps 4 --warmup 5
expect 1 "smallest --device-mem" "$CASTOR" train $tiny --steps 1 --device-mem 64KiB
expect 1 "No such file" "$CASTOR" train --config "$dir/tiny.json" --train "$dir/none" --steps 1
: >"$dir/empty"
expect 1 "empty" "$CASTOR" train --config "$dir/tiny.json" --train "$dir/empty" --steps 1
echo "short" >"$dir/short"
expect 1 "tokens" "$CASTOR" train --config "$dir/tiny.json" --train "$dir/short" --steps 1
echo '{"model_type": "llama"}' >"$dir/llama.json"
expect 2 "llama" "$CASTOR" train --config "$dir/llama.json" --train "$dir/short" --steps 1
echo '{"model_type": "opt", ' >"$dir/broken.json"
expect 1 "broken.json" "$CASTOR" train --config "$dir/broken.json" --train "$dir/short" --steps 1
expect 1 "/proc/none" "$CASTOR" train $tiny --steps 1 --out /proc/none

# A budget that the message names works, and one byte less doesn't.
least=$("$CASTOR" train $tiny --steps 1 --device-mem 64KiB 2>&1 | sed -n 's/.*tokens is \([0-9]*\) bytes.*/\1/p')
expect 0 "1 steps" "$CASTOR" train $tiny --steps 1 --device-mem "$least"
expect 1 "smallest --device-mem" "$CASTOR" train $tiny --steps 1 --device-mem $((least - 1))

# A run leaves what it says: model, metrics, a result on stdout that is one JSON line.
expect 0 '^{"steps": 5, .*"device_peak_bytes": [0-9]*, "h2d_bytes": [0-9]*, "d2h_bytes": [0-9]*}$' "$CASTOR" train $tiny --steps 5 --eval-every 0 --out "$dir/run" --json
[ "$(wc -l <"$dir/run/metrics.jsonl")" = 5 ] || bad "metrics.jsonl hasn't 5 lines"
for f in config.json model.safetensors vocab.json merges.txt; do [ -s "$dir/run/$f" ] || bad "$f was not saved"; done
# The saved model is a starting point, and losses come again to the bit.
expect 0 "loss" "$CASTOR" train --model "$dir/run" --train "$src/data/sample/wiki.test.raw" --batch 2 --seq 16 --steps 2 --out "$dir/run2"
"$CASTOR" train $tiny --steps 5 --eval-every 0 --out "$dir/again" --quiet >/dev/null 2>&1
cut -d, -f1-4 "$dir/run/metrics.jsonl" >"$dir/a"
cut -d, -f1-4 "$dir/again/metrics.jsonl" >"$dir/b"
cmp -s "$dir/a" "$dir/b" || bad "the same seed gave other losses"
cmp -s "$dir/run/model.safetensors" "$dir/again/model.safetensors" || bad "the same seed gave other weights"

# The folder explains itself: run.json, report.html, events for TensorBoard.
for key in command castor libraries clblast device driver options batch parameters placement planned_bytes budget_bytes gemm xxh3 started ended status; do
    grep -q "\"$key\"" "$dir/run/run.json" || bad "run.json lacks $key"
done
grep -q '"status": "done"' "$dir/run/run.json" || bad "run.json doesn't say that the run is done"
[ -e "$dir/run/gemm.json" ] && bad "gemm.json is there beside run.json"
ls "$dir"/run/events.out.tfevents.*.castor >/dev/null || bad "no event file"
grep -q "</html>" "$dir/run/report.html" || bad "report.html is not complete"
[ "$(grep -c '<figure>' "$dir/run/report.html")" = 5 ] || bad "report.html hasn't its 5 charts"
grep -qE '<script|https?://|src=|@import' "$dir/run/report.html" && bad "report.html takes something from elsewhere"
if command -v python3 >/dev/null; then
    python3 "$src/tests/read_events.py" "$dir/run" >"$dir/events" 2>"$dir/err" || bad "the event file can't be read"
    [ "$(grep -c '"tag": "loss"' "$dir/events")" = 5 ] || bad "the event file hasn't 5 losses"
    python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$dir/run/run.json" || bad "run.json is no JSON"
fi
cp "$dir/run/report.html" "$dir/report.html"
rm "$dir/run/report.html"
expect 0 "run/report.html" "$CASTOR" report "$dir/run"
cmp -s "$dir/report.html" "$dir/run/report.html" || bad "castor report makes another report than the run"
expect 2 "needs a DIR" "$CASTOR" report
expect 1 "none/metrics.jsonl: No such file" "$CASTOR" report "$dir/none"
mkdir "$dir/broken"
echo '{"step": "x"}' >"$dir/broken/metrics.jsonl"
expect 1 "metrics.jsonl, line 1" "$CASTOR" report "$dir/broken"
[ -e "$dir/broken/report.html" ] && bad "a report was left after a failure"

# Plans and traces, all without a device.
expect 0 "trace record" "$CASTOR" --help
expect 2 "trace fly: no such command" "$CASTOR" trace fly
expect 2 "trace: no such command" "$CASTOR" trace
shape="--config $dir/tiny.json --batch 2 --seq 16"
expect 0 "smallest budget" "$CASTOR" plan $shape
expect 2 "needs --config NAME or --trace FILE" "$CASTOR" plan
expect 2 "exclude each other" "$CASTOR" plan $shape --trace "$dir/t.json"
expect 2 "positions for 64 tokens" "$CASTOR" plan --config "$dir/tiny.json" --seq 65
expect 2 "needs --out FILE" "$CASTOR" trace record $shape
expect 0 "step.json" "$CASTOR" trace record $shape --out "$dir/step.json"
expect 1 "/proc/none" "$CASTOR" trace record $shape --out /proc/none/t.json
"$CASTOR" plan $shape --recompute none 2>"$dir/err" | sed '/^  placement /d' >"$dir/a"
expect 0 "smallest budget" "$CASTOR" plan --trace "$dir/step.json"
cmp -s "$dir/a" "$dir/outp" || bad "a recorded trace gives another plan than its configuration"
least=$(sed -n 's/.*smallest budget .*--device-mem \([0-9]*\)).*/\1/p' "$dir/a")
expect 0 "fits *yes" "$CASTOR" plan --trace "$dir/step.json" --device-mem "$least"
expect 1 "the smallest --device-mem that works is $least " "$CASTOR" plan --trace "$dir/step.json" --device-mem $((least - 1))
expect 1 "the smallest --device-mem that works is $least " "$CASTOR" trace html "$dir/step.json" --device-mem 1KiB --out "$dir/never.html"
[ -e "$dir/never.html" ] && bad "a page was left after a failure"
expect 0 '"least_bytes": '"$least" "$CASTOR" plan --trace "$dir/step.json" --json
for key in about device peak_bytes host_bytes up_bytes down_bytes bound_bytes seconds compute_seconds stall_seconds limit resident_bytes budgets; do
    grep -q "\"$key\"" "$dir/outp" || bad "plan --json lacks $key"
done
expect 0 "layers again" "$CASTOR" plan $shape
expect 0 "placement  *auto: tensors migrate; 2 of 2 layers computed again" "$CASTOR" plan $shape --recompute layer --device-mem 300KiB
expect 0 '"placement": "static"' "$CASTOR" plan $shape --placement static --json
expect 0 '"recomputed_layers": 0' "$CASTOR" plan $shape --placement static --json
expect 1 "the smallest --device-mem .* --placement resident" "$CASTOR" plan $shape --placement resident --device-mem 300KiB
expect 2 "goes with --placement static or auto" "$CASTOR" plan $shape --placement resident --offload-optim 0.5
expect 2 "goes with --placement static" "$CASTOR" plan $shape --offload-param 0.5
echo '{"up": 1e6, "down": 1e6}' >"$dir/slow.json"
expect 0 "limited by  *\(uploads\|downloads\);" "$CASTOR" plan --trace "$dir/step.json" --device-mem "$least" --rates "$dir/slow.json"
echo '{"up": 0}' >"$dir/slow.json"
expect 1 'slow.json: "up" is 0; allowed' "$CASTOR" plan --trace "$dir/step.json" --rates "$dir/slow.json"
expect 0 "largest tensors" "$CASTOR" trace show "$dir/step.json"
expect 0 '"largest_tensors"' "$CASTOR" trace show "$dir/step.json" --json
expect 0 "proven bound" "$CASTOR" trace replay "$dir/step.json"
expect 0 '"least_recently_used"' "$CASTOR" trace replay "$dir/step.json" --device-mem "$least,1GiB" --json
expect 2 "sizes as 384MiB or 2GiB,4GiB" "$CASTOR" trace replay "$dir/step.json" --device-mem 1GiB,,2GiB
expect 1 "smallest --device-mem" "$CASTOR" trace replay "$dir/step.json" --device-mem 1GiB,1
expect 0 "step.html" "$CASTOR" trace html "$dir/step.json" --device-mem "$least" --out "$dir/step.html"
grep -q "</html>" "$dir/step.html" || bad "trace html's page is not complete"
grep -qE '<script|https?://|src=|@import' "$dir/step.html" && bad "trace html's page takes something from elsewhere"
expect 0 "events.json" "$CASTOR" trace perfetto "$dir/step.json" --device-mem "$least" --out "$dir/events.json"
if command -v python3 >/dev/null; then
    operators=$(python3 -c 'import json, sys; print(len([e for e in json.load(sys.stdin)["traceEvents"] if e["ph"] == "X" and e["tid"] == 1]))' <"$dir/events.json")
    "$CASTOR" trace show "$dir/step.json" --json | grep -q "\"moments\": $operators," || bad "trace events are not one for each operator"
fi
for c in show replay html perfetto; do
    expect 2 "needs a FILE" "$CASTOR" trace $c $([ $c = html ] || [ $c = perfetto ] && echo --out "$dir/never")
    expect 1 "none.json: No such file" "$CASTOR" trace $c "$dir/none.json" $([ $c = html ] || [ $c = perfetto ] && echo --out "$dir/never")
done
sed 's/"castor_trace": 1/"castor_trace": 2/' "$dir/step.json" >"$dir/newer.json"
expect 1 'newer.json: "castor_trace" is 2; this program reads 1' "$CASTOR" trace show "$dir/newer.json"
expect 1 'newer.json: "castor_trace" is 2' "$CASTOR" plan --trace "$dir/newer.json"

# Freezing, weights from another folder.
expect 0 "loss" "$CASTOR" train $tiny --steps 2 --freeze "model.decoder.embed_*,*.layers.0.*" --freeze "*bias" --out "$dir/frozen"
grep -q '"frozen_tensors": 26' "$dir/frozen/run.json" || bad "run.json has not 26 frozen tensors"
grep -q '"freeze": "model.decoder.embed_\*,\*.layers.0.\*,\*bias"' "$dir/frozen/run.json" || bad "run.json hasn't all patterns"
expect 2 "no parameter is named \"\*.layer.0.\*\"; similar: model.decoder.layers.0" "$CASTOR" train $tiny --steps 1 \
    --freeze "*.layer.0.*" --out "$dir/never"
expect 2 "nothing is left to train" "$CASTOR" train $tiny --steps 1 --freeze "*" --out "$dir/never"
expect 2 "value is empty" "$CASTOR" train $tiny --steps 1 --freeze= --out "$dir/never"
sed 's/"ffn_dim": 64/"ffn_dim": 48/; s/"num_hidden_layers": 2/"num_hidden_layers": 3/' "$dir/tiny.json" >"$dir/deep.json"
deep="--config $dir/deep.json --train $src/data/sample/wiki.test.raw --batch 2 --seq 16 --eval-every 0"
expect 0 "loss" "$CASTOR" train $deep --steps 1 --init-from "$dir/run" --out "$dir/deep"
"$CASTOR" train $deep --steps 1 --init-from "$dir/run" >/dev/null 2>"$dir/err"
grep -q "weights taken (30): .* and 24 more" "$dir/err" && grep -q "left random (22): model.decoder.layers.0.fc1" "$dir/err" &&
    grep -q "not used (6): " "$dir/err" ||
    bad "--init-from doesn't tell what it took"
grep -q '"left": \[' "$dir/deep/run.json" || bad "run.json doesn't tell what --init-from took"
expect 2 "goes with --config" "$CASTOR" train --model "$dir/run" --init-from "$dir/run" --train "$src/data/sample/wiki.test.raw" --steps 1
expect 1 "no tensor agrees" "$CASTOR" train $tiny --steps 1 --init-from "$src/tests/fixtures/tiny-gelu"

# Loss behind a marker.
i=0
while [ $i -lt 40 ]; do
    printf 'Question: %s? Answer: %s%s\nNo marker here\n' $i $i $i
    i=$((i + 1))
done >"$dir/chat.txt"
expect 0 "loss" "$CASTOR" train --config "$dir/tiny.json" --train "$dir/chat.txt" --batch 2 --seq 16 --steps 2 --mask-before "Answer:" \
    --out "$dir/masked"
"$CASTOR" train --config "$dir/tiny.json" --train "$dir/chat.txt" --batch 2 --seq 16 --steps 2 --mask-before "Answer:" >/dev/null \
    2>"$dir/err"
grep -q "train text: 220 of [0-9]* tokens, those behind \"Answer:\"" "$dir/err" || bad "--mask-before doesn't tell how much counts"
[ "$(grep -c "warning: train text: 40 of 80 documents have no \"Answer:\"" "$dir/err")" = 1 ] || bad "no word, or more than one, about documents without the marker"
expect 1 "no token of the text counts" "$CASTOR" train --config "$dir/tiny.json" --train "$dir/chat.txt" --batch 2 --seq 16 --steps 2 \
    --mask-before "Antwort:"
echo '[[5, 6, 7, 8, 9, 10, 11, 12]]' >"$dir/t.json"
expect 2 "needs --tokenizer" "$CASTOR" train --config "$dir/tiny.json" --tokens-file "$dir/t.json" --batch 2 --seq 4 --steps 1 \
    --mask-before x --out "$dir/never"
[ -e "$dir/never" ] && bad "a folder was left after a failure"

# Token ids from files.
echo '[[5, 6, 7, 271], [8, 272]]' >"$dir/t.json"
expect 1 "train text: token 5 has id 272, outside the vocabulary of 272" "$CASTOR" train --config "$dir/tiny.json" \
    --tokens-file "$dir/t.json" --batch 1 --seq 2 --steps 1
for bad in '[]' '[[]]' '[[5]]' '[[5, -1]]' '[[5, 2147483648]]' '[[5, 1.5]]' '[[5, "6"]]' '[[5, [6]]]' '[5, 6]' '[[5, 6], {}]'; do
    echo "$bad" >"$dir/t.json"
    expect 1 "t.json: .*a JSON array of arrays of token ids" "$CASTOR" train --config "$dir/tiny.json" --tokens-file "$dir/t.json" \
        --batch 1 --seq 2 --steps 1
done
for bad in '' '[[5, 6' '{"ids": [[5, 6]]}' '[[5, 6]] x'; do
    echo "$bad" >"$dir/t.json"
    expect 1 "t.json" "$CASTOR" train --config "$dir/tiny.json" --tokens-file "$dir/t.json" --batch 1 --seq 2 --steps 1
done
awk 'BEGIN { printf "[["; for (i = 0; i < 65; i++) printf "%s%d", i ? "," : "", 5 + i; print "]]" }' >"$dir/t.json"
expect 2 "sequences of 65 tokens.*positions for 64 tokens" "$CASTOR" grads --model "$dir/run" --tokens-file "$dir/t.json" \
    --out "$dir/g2.safetensors"

# Completion in bash, and a manual page that names every command and option.
if command -v bash >/dev/null; then
    "$CASTOR" completion bash >"$dir/completion" 2>"$dir/err" || bad "completion bash"
    words() { # words LINE...: what bash would offer for the last word
        bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _castor; printf "%s\n" "${COMPREPLY[@]}"' - "$dir/completion" "$@" 2>"$dir/err" | grep . | LC_ALL=C sort | tr '\n' ' '
        [ -s "$dir/err" ] && bad "completion of $*: bash complains"
    }
    offers() { # offers WANTED LINE...
        want=$1
        shift
        got=$(words "$@")
        [ "$got" = "$want" ] || bad "completion of $*: \"$got\", wanted \"$want\""
    }
    offers "trace train " castor tr
    offers "train " castor trai
    offers "device gemm op plugins report step submit " castor bench ""
    offers "bash " castor completion ""
    offers "--mask-before --model " castor train --m
    offers "--save-every --schedule --seed --seq --steps --stop-after " castor train --s
    offers "constant cosine linear " castor train --schedule ""
    offers "constant cosine " castor train --batch 3 --schedule = c
    offers "opt-1.3b opt-125m opt-13b " castor train --config opt-1
    offers "$dir/run $dir/run2 " castor train --model "$dir/run"
    offers "$dir/run $dir/run2 " castor report "$dir/run"
    offers "bytes " castor train --tokenizer byt
    offers "" castor train --batch ""
    offers "$dir/chat.txt " castor tokenizer encode "$dir/ch"
    offers "--shape " castor bench gemm --sh
fi
"$CASTOR" help --man >"$dir/man"
for o in $("$CASTOR" train --help | sed -n 's/^  --\([a-z0-9-]*\).*/\1/p'); do
    grep -qF "\-\-$(echo "$o" | sed 's/-/\\-/g')" "$dir/man" || bad "the manual page lacks --$o"
done
for part in SYNOPSIS COMMANDS FILES ENVIRONMENT "EXIT STATUS" EXAMPLES "castor tokenizer train" "castor report"; do
    grep -q "^\.S[HS] $part" "$dir/man" || bad "the manual page lacks $part"
done

# grads, with its errors.
echo '[[5, 6, 7], [8, 9]]' >"$dir/t.json"
expect 0 "over 3 targets" "$CASTOR" grads --model "$dir/run" --tokens-file "$dir/t.json" --out "$dir/g.safetensors"
echo '[[5, 6, 7000]]' >"$dir/t.json"
expect 1 "vocabulary" "$CASTOR" grads --model "$dir/run" --tokens-file "$dir/t.json" --out "$dir/g2.safetensors"
[ -e "$dir/g2.safetensors" ] && bad "a file was left after a failure"
echo '[5, 6]' >"$dir/t.json"
expect 1 "array of arrays" "$CASTOR" grads --model "$dir/run" --tokens-file "$dir/t.json" --out "$dir/g2.safetensors"
expect 2 "needs --model" "$CASTOR" grads

echo '[[5, 6, 7, 8], [9, 10]]' >"$dir/six.json"
# eval: the same figure as text and as JSON; windows; errors.
expect 0 "^perplexity [0-9.]* (loss [0-9.]* over 7182 of 7296 tokens; 114 windows of 64, stride 64)$" "$CASTOR" eval --model "$dir/run" \
    --data "$src/data/sample"
expect 0 '"losses": \[null, [0-9.]*, .*\]}$' "$CASTOR" eval --model "$dir/run" --text "$src/data/sample/wiki.test.raw" --json
a=$("$CASTOR" eval --model "$dir/run" --data "$src/data/sample" --length 32 --batch 3 2>/dev/null |
    sed -n 's/perplexity \([0-9.]*\) (.*/\1/p')
b=$("$CASTOR" eval --model "$dir/run" --data "$src/data/sample" --length 32 --batch 50 --json 2>/dev/null |
    sed -n 's/{"perplexity": \([0-9.]*\),.*/\1/p')
[ -n "$a" ] && awk "BEGIN { exit !($a / $b - 1 < 1e-4 && $b / $a - 1 < 1e-4) }" || bad "perplexity $a as text, $b as JSON"
expect 0 "7295 of 7296 tokens" "$CASTOR" eval --model "$dir/run" --data "$src/data/sample" --stride 40
expect 0 "over 5 of 6 tokens; 1 windows" "$CASTOR" eval --model "$dir/run" --tokens-file "$dir/six.json"
expect 2 "needs --model DIR" "$CASTOR" eval --data "$src/data/sample"
expect 2 "needs one of --data" "$CASTOR" eval --model "$dir/run"
expect 2 "needs one of --data" "$CASTOR" eval --model "$dir/run" --data "$src/data/sample" --text "$dir/short"
expect 2 "positions for 64 tokens" "$CASTOR" eval --model "$dir/run" --data "$src/data/sample" --length 65
expect 2 "at most --length, 64" "$CASTOR" eval --model "$dir/run" --data "$src/data/sample" --stride 65
expect 1 "none" "$CASTOR" eval --model "$dir/none" --data "$src/data/sample"
expect 1 "empty corpus" "$CASTOR" eval --model "$dir/run" --text "$dir/empty"
expect 1 "smaller --batch or --length" "$CASTOR" eval --model "$dir/run" --data "$src/data/sample" --device-mem 64KiB

# generate: the same text in every way that must give the same; errors.
go="--model $dir/run --prompt The --max-tokens 20"
"$CASTOR" generate $go >"$dir/a" 2>"$dir/err" || bad "generate"
"$CASTOR" generate $go --no-cache --quiet >"$dir/b" 2>"$dir/err" || bad "generate --no-cache"
cmp -s "$dir/a" "$dir/b" || bad "another text without cache"
"$CASTOR" generate $go --top-k 1 --seed 5 >"$dir/b" 2>"$dir/err" || bad "generate --top-k"
cmp -s "$dir/a" "$dir/b" || bad "another text with --top-k 1"
printf The | "$CASTOR" generate --model "$dir/run" --prompt - --max-tokens 20 >"$dir/b" 2>"$dir/err" || bad "generate from standard input"
cmp -s "$dir/a" "$dir/b" || bad "another text for a prompt from standard input"
"$CASTOR" generate $go --temperature 1 --top-p 0.9 --seed 5 >"$dir/a" 2>"$dir/err" && "$CASTOR" generate $go --top-p 0.9 --seed 5 \
    >"$dir/b" 2>"$dir/err" || bad "generate --top-p"
cmp -s "$dir/a" "$dir/b" || bad "the same seed drew another text"
expect 0 '^{"prompt_ids": \[2, 88, 108, 105\], "ids": \[.*\], "text": ".*", "end": "[a-z-]*", "device_peak_bytes": [0-9]*}$' \
    "$CASTOR" generate $go --json
"$CASTOR" generate $go --max-tokens 99 --temperature 1 >"$dir/a" 2>"$dir/err" || bad "generate --max-tokens"
grep -q "warning: 60 tokens.* 64 positions are used up" "$dir/err" || bad "nothing was said of the last position"
expect 2 "needs --model DIR and --prompt" "$CASTOR" generate --prompt x
expect 2 "needs --model DIR and --prompt" "$CASTOR" generate --model "$dir/run"
expect 2 "empty" "$CASTOR" generate --model "$dir/run" --prompt ""
expect 1 "prompt is empty" "$CASTOR" generate --model "$dir/run" --prompt -
expect 2 "64 tokens; the model has positions for 64" "$CASTOR" generate --model "$dir/run" \
    --prompt 012345678901234567890123456789012345678901234567890123456789012
expect 2 "0 or more" "$CASTOR" generate $go --temperature -1
expect 2 "above 0 and up to 1" "$CASTOR" generate $go --top-p 1.5
expect 2 "above 0 and up to 1" "$CASTOR" generate $go --top-p 0
expect 2 "1 or more" "$CASTOR" generate $go --top-k 0
expect 2 "1 or more" "$CASTOR" generate $go --max-tokens 0
expect 1 "none" "$CASTOR" generate --model "$dir/none" --prompt x
expect 1 "keys and values of 23 tokens" "$CASTOR" generate $go --device-mem 64KiB

# tokenizer: text to ids and back, any bytes; learning; errors.
small=$src/tests/fixtures/tokenizer
printf 'Hi</s> a\377\n' >"$dir/t.txt"
expect 0 '^76 109 2 36 101 259 14$' "$CASTOR" tokenizer encode "$dir/t.txt"
expect 0 '^2 76 109 64 51 119 66 36 101 259 14$' "$CASTOR" tokenizer encode --bos --plain "$dir/t.txt"
expect 0 '^{"ids": \[76, 109, 2, 36, 101, 259, 14\]}$' "$CASTOR" tokenizer encode --json --tokenizer bytes "$dir/t.txt"
expect 0 '^{"ids": \[\]}$' "$CASTOR" tokenizer encode --tokenizer "$small" --json "$dir/empty"
for file in "$dir/t.txt" "$dir/empty" "$src/data/sample/wiki.test.raw"; do
    for json in "" --json; do
        "$CASTOR" tokenizer encode --tokenizer "$small" $json "$file" 2>"$dir/err" | "$CASTOR" tokenizer decode --tokenizer "$small" - \
            2>>"$dir/err" |
            cmp -s - "$file" || bad "$file doesn't come back from its ids ($json)"
    done
done
[ "$(echo '2, 76 109' | "$CASTOR" tokenizer decode --skip-special -)" = Hi ] || bad "decode --skip-special"
expect 0 '^1500 pieces, 1240 of them by merges$' "$CASTOR" tokenizer train --vocab-size 1500 \
    --out "$dir/tok" "$src/data/sample/wiki.train.raw"
cmp -s "$dir/tok/merges.txt" "$small/merges.txt" || bad "other merges were learned than by the reference"
expect 2 "tokenizer fly: no such command" "$CASTOR" tokenizer fly
expect 2 "tokenizer encode needs a FILE" "$CASTOR" tokenizer encode
expect 2 "begin with --" "$CASTOR" tokenizer encode "$dir/t.txt" "$dir/t.txt"
expect 2 "no such option" "$CASTOR" tokenizer decode --bos "$dir/t.txt"
expect 2 "needs --out" "$CASTOR" tokenizer train "$dir/t.txt"
expect 2 "260 or more" "$CASTOR" tokenizer train --vocab-size 259 --out "$dir/tok2" "$dir/t.txt"
expect 1 "empty corpus" "$CASTOR" tokenizer train --out "$dir/tok2" "$dir/empty"
expect 1 "/proc/none" "$CASTOR" tokenizer train --out /proc/none "$dir/t.txt"
[ -e "$dir/tok2" ] && bad "a folder was left after a failure"
expect 1 "none: No such file" "$CASTOR" tokenizer encode "$dir/none"
expect 1 "none/vocab.json: No such file" "$CASTOR" tokenizer encode --tokenizer "$dir/none" "$dir/t.txt"
expect 1 "Is a directory" "$CASTOR" tokenizer encode "$dir"
for ids in "5 x" "5 -1" "5 4294967296" "5 99999999999999999999" "5.0" "[5, 1.5]" "[5, -1]" '{"ids": 5}' '["5"]' "[5" "{}"; do
    echo "$ids" >"$dir/ids"
    expect 1 "$dir/ids: " "$CASTOR" tokenizer decode "$dir/ids"
done
echo "5 260" >"$dir/ids"
expect 1 "id 260 at place 1: the tokenizer has 260" "$CASTOR" tokenizer decode "$dir/ids"
expect 1 '"vocab_size" is 272' "$CASTOR" train $tiny --steps 1 --tokenizer "$small"
# A model's folder with a tokenizer.json only, as newer transformers saves it; one that can't be read is never taken for none.
sed 's/272/1500/' "$dir/tiny.json" >"$dir/tiny-1500.json"
"$CASTOR" train --config "$dir/tiny-1500.json" $(echo "$tiny" | sed 's/--config [^ ]* //') --tokenizer "$small-json" --steps 1 --out "$dir/json" \
    >/dev/null 2>"$dir/err" || bad "train with tokenizer.json"
for file in vocab.json merges.txt tokenizer.json; do [ -s "$dir/json/$file" ] || bad "train with tokenizer.json didn't save $file"; done
rm "$dir/json/vocab.json" "$dir/json/merges.txt"
printf 'A tower' >"$dir/t.txt"
ids=$("$CASTOR" tokenizer encode --tokenizer "$small" --bos "$dir/t.txt" | sed 's/ /, /g')
expect 0 "\"prompt_ids\": \[$ids\]" "$CASTOR" generate --model "$dir/json" --prompt "A tower" --max-tokens 1 --json
sed 's/"ByteLevel"/"Metaspace"/' "$small-json/tokenizer.json" >"$dir/json/tokenizer.json"
again="train --model $dir/json --train $src/data/sample/wiki.test.raw --batch 2 --seq 16 --steps 1 --out $dir/never"
expect 2 'tokenizer.json belongs to can.*pre_tokenizer.* is "Metaspace"' "$CASTOR" $again
rm "$dir/json/tokenizer.json"
expect 1 "tokenizer_config.json belongs to .*vocab.json: No such file" "$CASTOR" $again
[ -e "$dir/never" ] && bad "a folder was left after a failure"
"$CASTOR" $again --tokenizer bytes --out "$dir/json-bytes" >/dev/null 2>"$dir/err" || bad "--tokenizer bytes for a model with another one"
grep -q "text is taken as bytes" "$dir/err" && bad "a warning where bytes were asked for"
rm "$dir/json/tokenizer_config.json" "$dir/json/special_tokens_map.json"
"$CASTOR" $again --out "$dir/json-bytes" >/dev/null 2>"$dir/err" || bad "a model without tokenizer"
grep -q "warning: .*/json: no tokenizer; text is taken as bytes" "$dir/err" || bad "no word about a model without tokenizer"
# Token ids are kept in OUT/cache; what is there is used, unless it is damaged.
set -- "$dir"/run/cache/*.tokens
[ $# = 1 ] && [ -s "$1" ] || bad "train kept $# files of token ids"
cp "$1" "$dir/kept"
"$CASTOR" train $tiny --steps 1 --eval-every 0 --out "$dir/run" --verbose >/dev/null 2>"$dir/err" || bad "train with kept token ids"
grep -q "token ids from .*cache" "$dir/err" || bad "kept token ids were not used"
echo x >>"$1"
"$CASTOR" train $tiny --steps 1 --eval-every 0 --out "$dir/run" >/dev/null 2>"$dir/err" || bad "train with damaged token ids"
grep -q "warning: .*its length is wrong" "$dir/err" || bad "no word about damaged token ids"
cmp -s "$1" "$dir/kept" || bad "damaged token ids were not written anew"
# A model folder that can't be right: exit 1 or 2, the file and what is wrong, nothing left behind.
echo '[[5, 6, 7]]' >"$dir/t.json"
for bad in "1 bad-code.bin os.system" "1 bad-nan.safetensors NaN" "2 bad-legacy.bin 1.6" "1 bad-vocabulary.safetensors vocab_size" \
    "1 bad-bomb.bin compressed" "2 bad-head.safetensors tied"; do
    set -- $bad
    rm -rf "$dir/hf"
    mkdir "$dir/hf"
    cp "$src/tests/fixtures/hf/config.json" "$dir/hf"
    case $2 in *.bin) name=pytorch_model.bin ;; *) name=model.safetensors ;; esac
    cp "$src/tests/fixtures/hf/$2" "$dir/hf/$name"
    expect "$1" "hf/$name.*$3" "$CASTOR" grads --model "$dir/hf" --tokens-file "$dir/t.json" --out "$dir/g2.safetensors" \
        --logits "$dir/l2.safetensors"
    ls "$dir"/g2* "$dir"/l2* 2>/dev/null && bad "$2: a file was left after a failure"
    expect "$1" "hf/$name.*$3" "$CASTOR" train --model "$dir/hf" --tokens-file "$dir/t.json" --seq 2 --batch 1 --steps 1 --out "$dir/never"
    [ -e "$dir/never" ] && bad "$2: a folder was left after a failure"
done
cp "$src/tests/fixtures/hf/good-f16.bin" "$dir/hf/pytorch_model.bin"
rm "$dir/hf/model.safetensors"
expect 0 "over 2 targets" "$CASTOR" grads --model "$dir/hf" --tokens-file "$dir/t.json" --out "$dir/g.safetensors" \
    --logits "$dir/l.safetensors"
[ -s "$dir/l.safetensors" ] || bad "no logits"

expect 0 "tokens/s" "$CASTOR" bench step --config "$dir/tiny.json" --batch 1 --seq 16 --steps 2
expect 0 '"ms_per_step"' "$CASTOR" bench step --config "$dir/tiny.json" --batch 1 --seq 16 --steps 2 --json --profile
expect 0 '"longest_ms"' "$CASTOR" bench step --config "$dir/tiny.json" --batch 1 --seq 16 --steps 2 --json --profile

# Products and operators: a tiny run of each, JSON with its keys, errors.
expect 0 "17 *19 *23  NT" "$CASTOR" bench gemm --shape 17,19,23,NT --repeat 1
expect 0 "1 *65 *7  TT" "$CASTOR" bench gemm --shape 1,65,7,TT --repeat 2 --device-mem 64MiB
"$CASTOR" bench gemm --shape 33,1,65,TN --repeat 1 --json --quiet >"$dir/gemm.json" 2>"$dir/err" || bad "bench gemm --json"
for key in device products product '"m": 33' '"n": 1' '"k": 65' '"form": "TN"' ms ms_min ms_max gflops percent_of_best; do
    case $key in \"*) ;; *) key="\"$key\"" ;; esac
    grep -q -- "$key" "$dir/gemm.json" || bad "bench gemm --json lacks $key"
done
expect 0 "^cast to bf16" "$CASTOR" bench op --only cast --repeat 1
expect 0 '"percent_of_triad": 100.0' "$CASTOR" bench op --only triad --repeat 1 --json
for shape in 17,19,23 17,19,23,NX 17,19,NT 0,19,23,NT -1,19,23,NT 17,19,23,NTN a,b,c,NN; do
    expect 2 "m,n,k,NT is wanted" "$CASTOR" bench gemm --shape "$shape"
done
for tokens in 0 128, 128,x ,128 1,2,3,4,5,6,7,8,9; do expect 2 "separated by commas" "$CASTOR" bench gemm --tokens "$tokens"; done
expect 2 "1 or more" "$CASTOR" bench gemm --repeat 0
expect 2 "no operator has this" "$CASTOR" bench op --only matrix
expect 2 "no such option" "$CASTOR" bench op --shape 1,1,1,NN
expect 1 "with a budget of 64.0 MiB" "$CASTOR" bench gemm --shape 4096,4096,4096,NN --repeat 1 --device-mem 64MiB
# A wrong product is no measurement. (The fault is in the engine for CPUs; elsewhere it isn't met.)
if "$CASTOR" devices | grep -A1 '^\*' | grep -q ' CPU,' && [ -z "$CASTOR_GPU_SHAPE" ]; then
    cp -r "$src/cl" "$dir/cl"
    sed 's/i < rows ? PANEL_1/i + 1 < rows ? PANEL_1/' "$src/cl/gemm_cpu_pack.clh" >"$dir/cl/gemm_cpu_pack.clh"
    cmp -s "$src/cl/gemm_cpu_pack.clh" "$dir/cl/gemm_cpu_pack.clh" && bad "no fault was planted"
    CASTOR_CL_DIR="$dir/cl" CASTOR_CACHE_DIR="$dir/cache" expect 1 "wrong result.*17 x 19 x 23" "$CASTOR" bench gemm --shape 17,19,23,NN \
        --repeat 1
fi

# A result that can't be written is a failure.
if [ -e /dev/full ]; then
    "$CASTOR" devices >/dev/full 2>"$dir/err"
    [ $? = 1 ] || bad "a full standard output went unnoticed"
fi

# Ctrl-C: the step is finished, the model saved, exit 130.
"$CASTOR" train $tiny --steps 100000 --eval-every 0 --out "$dir/stop" >"$dir/outp" 2>"$dir/err" &
pid=$!
i=0
while [ $i -lt 300 ] && ! [ -s "$dir/stop/metrics.jsonl" ]; do sleep 0.1; i=$((i + 1)); done
kill -INT $pid
wait $pid
[ $? = 130 ] || bad "Ctrl-C: exit status isn't 130"
[ -s "$dir/stop/model.safetensors" ] || bad "Ctrl-C: nothing was saved"
grep -q "the model is saved in" "$dir/err" || bad "Ctrl-C: it doesn't say where the model is"

[ $fail = 0 ] && echo "ok"
exit $fail
