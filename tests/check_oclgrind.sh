#!/bin/sh
# Whole training steps of tiny models under oclgrind, which checks every memory access and looks for data races: all
# kernels, in both shapes, with sizes that leave remainders everywhere. oclgrind ends with 0 even when it finds
# something, so its log must be empty.
command -v oclgrind >/dev/null 2>&1 || { echo "skipped: no oclgrind (Debian: oclgrind)"; exit 77; }
dir=$(mktemp -d "${TMPDIR:-/tmp}/castor-oclgrind.XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
fail=0
CASTOR_CACHE_DIR=$dir/cache
export CASTOR_CACHE_DIR

# model NAME BEFORE ACTIVATION PROJECTION
model() {
    cat >"$dir/$1.json" <<J
{"model_type": "opt", "vocab_size": 263, "hidden_size": 22, "num_hidden_layers": 1, "ffn_dim": 37, "num_attention_heads": 2,
 "max_position_embeddings": 40, "do_layer_norm_before": $2, "activation_function": "$3", "word_embed_proj_dim": $4, "dropout": 0.1}
J
}
model post false relu 13
model pre true relu 22
model gelu true gelu 22
printf 'a short text, whose letters are some hundred, for batches of nine and seventeen tokens of the byte tokenizer, twice over.' >"$dir/text"

for shape in cpu gpu; do
    [ $shape = gpu ] && { CASTOR_GPU_SHAPE=1; export CASTOR_GPU_SHAPE; }
    for run in "post resident 9" "pre static 9" "gelu resident 17"; do
        set -- $run
        log=$dir/$1-$shape.log
        timeout 600 oclgrind --log "$log" --data-races "$CASTOR" train --device oclgrind --device-mem 16MiB --config "$dir/$1.json" \
            --train "$dir/text" --valid "$dir/text" --batch 2 --seq "$3" --steps 1 --eval-every 1 --placement "$2" >"$dir/out" 2>&1
        got=$?
        tail -n 1 "$dir/out"
        # oclgrind 21.10 now and then aborts while it is unloaded, after the program's last line
        case $got in 134 | 139) grep -q "^validation loss" "$dir/out" && got=0 ;; esac
        [ $got = 0 ] || { echo "FAIL: $1 ($shape) under oclgrind: exit $got"; tail -n 5 "$dir/out"; fail=1; }
        [ -s "$log" ] && { echo "FAIL: $1 ($shape): oclgrind found"; head -n 20 "$log"; fail=1; }
    done
done
exit $fail
