#!/bin/bash
# make check-vendors: every program that Castor builds on a GPU, compiled for GPUs that aren't here, by their vendors' compilers.
# A kernel with scratch memory, with calls left over, with more local memory or work-items than a group has, or without
# figures is a failure; so is a vendor with no compiler here. docs/vendors.md tells more.
#
# HEADS=all: attention with every head size; TARGETS="amd-gfx90a ...": these only. From make: top source and build folder,
# $CASTOR and $LIST_PROGRAMS.
here=$(cd "$(dirname "$0")" && pwd)
work=${WORK:-vendors}
fail=0
bad() { echo "FAIL: $*"; fail=1; }
rm -rf "$work" && mkdir -p "$work" || exit 99
[ "$HEADS" = all ] && heads=all-heads

# ---- what there is to compile ----
"$LIST_PROGRAMS" "$work/models" models >/dev/null || bad "models launch what isn't listed"
"$LIST_PROGRAMS" "$work/cpu" cpu || bad "no list for CPUs"
# Every kernel of every file is launched by one of the lists.
cut -f 4 "$work/models/list" "$work/cpu/list" | tr ' ' '\n' | sed 's/:.*//' | sort -u >"$work/kernels"
grep -oh '__kernel[^(]*\( [A-Z]*\)\?\((([^)]*))\)\?.*void [a-z_0-9]*(' "$here"/../../cl/*.cl | sed 's/.*void //; s/(//' | sort -u >"$work/defined"
[ -s "$work/defined" ] || bad "no kernels found in cl/"
for k in $(comm -3 "$work/kernels" "$work/defined"); do bad "kernel $k is listed or defined, but not both"; done

# What a model's training and generation ask a driver for is listed: seen from outside, in the GPU shape.
asked() {
    cat >"$work/config.json" <<J
{"model_type": "opt", "vocab_size": 263, "hidden_size": 22, "num_hidden_layers": 1, "ffn_dim": 37, "num_attention_heads": 2,
 "max_position_embeddings": 40, "do_layer_norm_before": $1, "activation_function": "$2", "word_embed_proj_dim": $3, "dropout": $4}
J
    printf 'a short text of some hundred letters for a few batches of nine tokens of the byte tokenizer, no more.' >"$work/text"
    timeout 300 oclgrind "$CASTOR" train --verbose --device oclgrind --device-mem 16MiB --config "$work/config.json" --train "$work/text" \
        --valid "$work/text" --batch 2 --seq 9 --steps 1 --eval-every 1 --out "$work/model" >>"$work/asked" 2>&1
    timeout 300 oclgrind "$CASTOR" generate --verbose --device oclgrind --device-mem 16MiB --model "$work/model" --prompt abc --max-tokens 2 \
        >>"$work/asked" 2>&1
}
if command -v oclgrind >/dev/null 2>&1; then
    export CASTOR_GPU_SHAPE=1 CASTOR_CACHE_DIR=$work/cache
    asked false relu 13 0.1
    asked true gelu 22 0
    oclgrind "$LIST_PROGRAMS" "$work/seen" device=oclgrind all-heads || bad "no list for oclgrind"
    unset CASTOR_GPU_SHAPE CASTOR_CACHE_DIR
    sed -n 's,^cl/\([a-z_0-9]*\)\.cl with \(.*\),\1\t\2,p' "$work/asked" | sort -u >"$work/asked.list"
    cut -f 2,3 "$work/seen/list" | sort -u >"$work/seen.list"
    [ "$(wc -l <"$work/asked.list")" -ge 10 ] || { bad "castor train under oclgrind built hardly a program"; tail -n 5 "$work/asked"; }
    # also what the device's self-test takes to another shape, because it computes wrong results, isn't listed
    comm -23 "$work/asked.list" "$work/seen.list" | sed 's/^/FAIL: built in training, but not listed: /' | grep . && fail=1
    echo "training and generation of small models build $(wc -l <"$work/asked.list") programs"
else
    echo "skipped: what training builds isn't compared: no oclgrind (Debian: oclgrind)"
fi

# ---- compilers ----
first() { for f in "$@"; do [ -e "$f" ] && { echo "$f"; return; }; done; }
for c in ${CLANG:-clang-19 clang-20 clang-21 clang-22}; do command -v "$c" >/dev/null && CLANG=$c && break; done
command -v "${CLANG:-none}" >/dev/null || CLANG=
BITCODE=${BITCODE:-$(dirname "$(first /usr/lib/*/amdgcn/bitcode/opencl.bc /usr/lib/llvm-*/lib/clang/*/amdgcn/bitcode/opencl.bc \
    /opt/rocm/amdgcn/bitcode/opencl.bc)" 2>/dev/null)}
LIBCLC=${LIBCLC:-$(first /usr/lib/clc/nvptx64--nvidiacl.bc)}
PTXAS=${PTXAS:-$(command -v ptxas || first /usr/local/cuda/bin/ptxas)}
export here CLANG BITCODE LIBCLC PTXAS

# Why this target can't be compiled for, or nothing.
missing() {
    case $1 in
    intel) command -v ocloc >/dev/null || echo "no ocloc (Debian: intel-opencl-icd)" ;;
    *) [ -n "$CLANG" ] || { echo "no clang (Debian: clang-19)"; return; }
        [ "$1" != amd ] || [ -f "$BITCODE/opencl.bc" ] || echo "no device bitcode (Debian: rocm-device-libs)"
        [ "$1" != nvidia ] || [ -f "$LIBCLC" ] || echo "no nvptx64--nvidiacl.bc (Debian: libclc-15)" ;;
    esac
}

# ---- compile ----
# Programs of equal source and options differ for no target, so each is compiled once a target.
: >"$work/jobs"
: >"$work/ran"
while read -r name vendor arch group local _ sub_group _; do
    case $name in '#'* | '') continue ;; esac
    case " ${TARGETS:-$name} " in *" $name "*) ;; *) continue ;; esac
    why=$(missing "$vendor")
    [ -z "$why" ] || { echo "skipped: $name: $why"; continue; }
    "$LIST_PROGRAMS" "$work/$name" $heads "group=$group" "local=$local" "sub_group=$sub_group" || { bad "no list for $name"; continue; }
    echo "$name $vendor" >>"$work/ran"
    cut -f 1 "$work/$name/list" | sed "s,^,$work $name ," >>"$work/jobs"
    # what must be noticed, once a target
    mkdir -p "$work/planted/$name"
    for n in 1 2 3; do
        cp "$here/planted.cl" "$work/planted/$name/$n.cl"
        echo "$work/planted $name $n" >>"$work/jobs"
    done
    printf '1\tplanted\t-DFAULT=1\tscratch:64\n2\tplanted\t-DFAULT=2\tcalls:64\n3\tplanted\t-DFAULT=3\tlocal_memory:64\n' >"$work/planted/$name/list"
done <"$here/targets"
for v in ${VENDORS:-intel amd nvidia}; do grep -q " $v\$" "$work/ran" || bad "nothing was compiled for $v"; done
[ -n "$PTXAS" ] || echo "nvidia: no ptxas here, so the driver alone tells registers and local memory; \"-\" in the table"
echo "compiling $(wc -l <"$work/jobs") programs for $(wc -l <"$work/ran") targets"
# the long ones first
sort -t ' ' -k 3,3n "$work/jobs" | xargs -P "$(getconf _NPROCESSORS_ONLN)" -L 1 sh "$here/compile.sh"

# ---- judge ----
while read -r name _; do
    while IFS="$(printf '\t')" read -r n file options _; do
        [ -s "$work/$name/$n.rows" ] && continue
        bad "$name: cl/$file.cl doesn't compile with $options"
        head -n 5 "$work/$name/$n.log"
    done <"$work/$name/list"
done <"$work/ran"
awk -v work="$work/planted" -f "$here/report.awk" "$here/targets" "$work/ran" >"$work/planted/report"
while read -r name vendor; do
    for k in scratch calls local_memory; do
        [ "$vendor $k" = "intel calls" ] && continue # Intel's compiler doesn't tell
        grep -q "^FAIL: $name: $k of" "$work/planted/report" || bad "$name: a planted fault isn't noticed: $k"
    done
done <"$work/ran"
awk -v work="$work" -f "$here/report.awk" "$here/targets" "$work/ran" || fail=1
[ $fail = 0 ] && echo "ok"
exit $fail
