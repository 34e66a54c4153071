#!/bin/sh
# castor bench plugins: a row for each plugin and batch, the same losses in all of them, and what doesn't fit says by how much.
dir=$(mktemp -d "${TMPDIR:-/tmp}/castor-plugins.XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
fail=0
bad() { echo "FAIL: $*"; cat "$dir/err"; fail=1; }
"$CASTOR" devices >/dev/null 2>&1 || { echo "skipped: no OpenCL device"; exit 77; }

cat >"$dir/model.json" <<'J'
{"model_type": "opt", "vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2, "ffn_dim": 256,
 "num_attention_heads": 4, "max_position_embeddings": 64, "word_embed_proj_dim": 32, "do_layer_norm_before": false}
J
plugins() { "$CASTOR" bench plugins --config "$dir/model.json" --seq 32 --steps 2 "$@" >"$dir/out" 2>"$dir/err" </dev/null; }

# Bad input: before anything is measured.
refused() { # WORDS options...
    words=$1
    shift
    plugins "$@"
    got=$?
    [ $got = 2 ] || bad "$*: exit $got, wanted 2"
    grep -q -- "$words" "$dir/err" || bad "$*: stderr lacks \"$words\""
    [ -s "$dir/out" ] && bad "$*: something on stdout though it failed"
}
refused '"zero" is none: ddp, ddp_fp16, low_level_zero and gemini are' --plugins ddp,zero
refused '"" is none' --plugins ddp,
refused "separated by commas" --batch 8,0
refused "separated by commas" --batch 8,x
refused "whole number" --steps 0
refused "positions for 64 tokens" --seq 65 --batch 1
refused "no such option" --placement auto
"$CASTOR" bench plugins 2>&1 | grep -q "needs --config NAME" || bad "without --config"

# Every row, with room for all: one that isn't there yet says so.
plugins --batch 2,1,2 || bad "exit $?"
[ "$(grep -cE '^ +[12]  (ddp|low_level_zero|gemini) +[0-9]' "$dir/out")" = 6 ] || bad "not six measured rows: $(cat "$dir/out")"
[ "$(grep -c 'ddp_fp16 *not yet' "$dir/out")" = 2 ] || bad "ddp_fp16: $(cat "$dir/out")"
grep -q "ranks: 1" "$dir/out" || bad "no word of ranks"
grep -q "^losses: the same bits" "$dir/out" || bad "losses weren't compared: $(cat "$dir/out")"

# The same as numbers. values KEY PLUGIN: of that plugin's rows, in order
values() { tr -d '\n' <"$dir/out" | sed 's/"losses": *\[[^]]*\]//g; s/.*"rows"//' | tr '{' '\n' | grep "\"plugin\": *\"$2\"" |
    sed -n "s/.*\"$1\": *\([-0-9.e+]*\).*/\1/p" | tr '\n' ' '; }
plugins --batch 1,2 --json || bad "--json: exit $?"
cp "$dir/out" "$dir/all"
for plugin in ddp low_level_zero gemini; do
    for key in ms first_ms samples_per_s tokens_per_s gflops percent_of_gemm device_peak_bytes host_peak_bytes up_bytes_step; do
        for value in $(values $key $plugin) none; do
            [ "$value" = none ] || awk "BEGIN { exit !($value > 0) }" || bad "$plugin: $key is $value"
        done
        [ "$(values $key $plugin | wc -w)" = 2 ] || bad "$plugin: not two $key: $(cat "$dir/out")"
    done
done
# Where the device rounds divisions as the host does, AdamW's side doesn't matter.
name=$(sed -n 's/^ *"device": "\(.*\)",$/\1/p' "$dir/out")
compared=2
"$CASTOR" devices --json | grep -F -A 40 "\"name\": \"$name\"" | grep -m 1 '"exact_divide"' | grep -q true && compared=4
grep -q "\"losses_compared\": $compared" "$dir/out" || bad "losses of $compared rows aren't compared with another row's"
set -- $(values device_peak_bytes ddp) $(values device_peak_bytes low_level_zero)
[ "$3" -lt "$1" ] && [ "$4" -lt "$2" ] || bad "optimizer state on the host saves nothing: $*"

# In four fifths of that only gemini has room, and it moves tensors; the others say what they need, which is exactly enough.
all=$1 budget=$(($1 * 8 / 10))
[ $((budget)) -lt "$3" ] || budget=$(($3 - 1))
plugins --batch 1 --json --device-mem $budget || bad "budget $budget: exit $?"
need=$(values need_bytes ddp) lacking=$(values lacking_bytes ddp)
[ $((need)) -gt $budget ] && [ $((need - budget)) = $((lacking)) ] || bad "ddp needs $need, lacks $lacking, the budget is $budget"
[ $((need)) -le "$all" ] || bad "ddp needs $need, but used $all"
[ "$(values lacking_bytes low_level_zero)" ] || bad "low_level_zero has room in $budget: $(cat "$dir/out")"
peak=$(values device_peak_bytes gemini) down=$(values down_bytes_step gemini) overlap=$(values overlap_percent gemini)
[ $((peak)) -gt 0 ] && [ $((peak)) -le $budget ] || bad "gemini: peak $peak in $budget"
awk "BEGIN { exit !($down > 1000) }" || bad "gemini: $down bytes down"
awk "BEGIN { exit !($overlap >= 0 && $overlap <= 100) }" || bad "gemini: overlap $overlap"
plugins --batch 1 --plugins ddp,gemini --device-mem $budget || bad "budget $budget: exit $?"
grep -q "ddp  *doesn't fit: needs [0-9.]* [KM]iB more" "$dir/out" || bad "ddp doesn't say by how much: $(cat "$dir/out")"
plugins --batch 1 --plugins ddp --json --device-mem $((need)) || bad "exit $?"
[ "$(values device_peak_bytes ddp)" ] || bad "ddp doesn't fit what it said it needs"
plugins --batch 1 --plugins ddp --json --device-mem $((need - 1)) || bad "exit $?"
[ "$(values lacking_bytes ddp)" ] || bad "ddp fits one byte less than it said it needs"

# Losses that differ are an error, with all rows told: AdamW's kernel does something else than the host. (Its own test, which
# would stop it before, is left out.)
if grep -q '"losses_compared": 4' "$dir/all"; then
    cp -r "${srcdir:-.}/cl" "$dir/cl"
    sed 's/w0 \* decay/w0 * decay * 0.999f/; s/w\[j\] \* decay/w[j] * decay * 0.999f/' "${srcdir:-.}/cl/adamw.cl" >"$dir/cl/adamw.cl"
    cmp -s "${srcdir:-.}/cl/adamw.cl" "$dir/cl/adamw.cl" && bad "no fault was planted"
    CASTOR_SELF_TEST=off CASTOR_CL_DIR="$dir/cl" CASTOR_CACHE_DIR="$dir/cache" plugins --batch 1 --plugins ddp,low_level_zero
    [ $? = 1 ] || bad "losses that differ: not exit 1"
    grep -q "batch 1, step 2: loss .* with ddp, .* with low_level_zero" "$dir/err" || bad "it isn't told which losses differ"
    grep -q "^losses differ" "$dir/out" || bad "losses differ, but: $(cat "$dir/out")"
fi

# gemini's, too, where not even that fits.
plugins --batch 1 --plugins gemini --json --device-mem 64KiB || bad "exit $?"
need=$(values need_bytes gemini)
[ $((need)) -gt 65536 ] && [ $((need)) -lt $budget ] || bad "gemini needs $need"
plugins --batch 1 --plugins gemini --json --device-mem $((need)) || bad "exit $?"
[ "$(values device_peak_bytes gemini)" ] || bad "gemini doesn't fit what it said it needs"

[ $fail = 0 ] && echo "ok"
exit $fail
