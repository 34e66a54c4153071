#!/bin/bash
# make check-vendors: every program that Castor builds on a GPU, compiled for GPUs that aren't here, by their vendors' compilers.
# A kernel with scratch memory, with calls left over, with more local memory or work-items than a group has, or without
# figures is a failure; so is a vendor with no compiler here. docs/vendors.md tells more.
#
# HEADS=all: attention with every head size; VENDORS="amd ...", TARGETS="amd-gfx90a ...", FILES="attention ...": these only.
# VENDORS=driver: the same by the OpenCL driver of a device that is here, DEVICE (what castor --device takes; else CASTOR_DEVICE, else
# the best one). From make: $CASTOR, $LIST_PROGRAMS and $DRIVER.
here=$(cd "$(dirname "$0")" && pwd)
work=${WORK:-vendors}
vendors=${VENDORS:-intel amd nvidia}
DEVICE=${DEVICE-$CASTOR_DEVICE}
targets=$work/targets
export DRIVER DEVICE targets
fail=0
bad() { echo "FAIL: $*"; fail=1; }
rm -rf "$work" && mkdir -p "$work/planted" || exit 99
[ "$HEADS" = all ] && heads=all-heads

# ---- what there is to compile ----
env -u CASTOR_GPU_SHAPE "$LIST_PROGRAMS" "$work/models" models >/dev/null || bad "models launch what isn't listed"
env -u CASTOR_GPU_SHAPE "$LIST_PROGRAMS" "$work/cpu" cpu || bad "no list for CPUs"
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
if [ "$vendors" = driver ] || [ -n "$FILES" ]; then
    : # that a list is whole is seen when all is compiled
elif command -v oclgrind >/dev/null 2>&1; then
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
    driver) ;;
    intel) command -v ocloc >/dev/null || echo "no ocloc (Debian: intel-opencl-icd)" ;;
    *) [ -n "$CLANG" ] || { echo "no clang (Debian: clang-19)"; return; }
        [ "$1" != amd ] || [ -f "$BITCODE/opencl.bc" ] || echo "no device bitcode (Debian: rocm-device-libs)"
        [ "$1" != nvidia ] || [ -f "$LIBCLC" ] || echo "no nvptx64--nvidiacl.bc (Debian: libclc-15)" ;;
    esac
}

# The device here is one more target. What "-" stands for in its line is taken from one of its kind.
cp "$here/targets" "$targets"
case " $vendors " in *" driver "*)
    "$DRIVER" "$DEVICE" >"$work/here" && sed -n 's/^#/driver:/p' "$work/here"
    awk 'FILENAME == ARGV[1] { for (i = 6; i <= 11; i++) of[$3, i] = $i; next }
        /^#/ { next }
        { for (i = 6; i <= 11; i++) if ($i == "-" && ($3, i) in of) $i = of[$3, i]; print }' "$here/targets" "$work/here" >>"$targets"
    ;;
esac

# ---- compile ----
# Programs of equal source and options differ for no target, so each is compiled once a target.
: >"$work/jobs"
: >"$work/ran"
while read -r name vendor arch group local _ sub_group _; do
    case $name in '#'* | '') continue ;; esac
    case " $vendors " in *" $vendor "*) ;; *) continue ;; esac
    case " ${TARGETS:-$name} driver " in *" $name "*) ;; *) continue ;; esac
    why=$(missing "$vendor")
    [ -z "$why" ] || { echo "skipped: $name: $why"; continue; }
    if [ "$vendor" = driver ]; then set -- "device=$DEVICE"; else set -- "group=$group" "local=$local" "sub_group=$sub_group"; fi
    "$LIST_PROGRAMS" "$work/$name" $heads "$@" || { bad "no list for $name"; continue; }
    if [ -n "$FILES" ]; then
        awk -F '\t' -v files=" $FILES " 'index(files, " " $2 " ")' "$work/$name/list" >"$work/few" && mv "$work/few" "$work/$name/list"
        [ -s "$work/$name/list" ] || bad "$name: no programs of $FILES"
    fi
    echo "$name $vendor $arch" >>"$work/ran"
    cut -f 1 "$work/$name/list" | sed "s,^,$work $name ," >>"$work/jobs"
    # what must be noticed, once a target
    mkdir -p "$work/planted/$name"
    ints=$((local < 163840 ? 40960 : local / 4 + 1))
    n=0
    for k in scratch:64 calls:64 local_memory:64 "groups:$((group + 1))" broken:64; do
        n=$((n + 1))
        cp "$here/planted.cl" "$work/planted/$name/$n.cl"
        echo "$work/planted $name $n" >>"$work/jobs"
        printf '%d\tplanted\t-DFAULT=%d -DINTS=%d\t%s\n' $n $n $ints "$k"
    done >"$work/planted/$name/list"
done <"$targets"
for v in $vendors; do grep -q " $v " "$work/ran" || bad "nothing was compiled for $v"; done
[ -n "$PTXAS" ] || ! grep -q ' nvidia ' "$work/ran" ||
    echo "nvidia: no ptxas here, so the driver alone tells registers and local memory; \"-\" in the table"
echo "compiling $(wc -l <"$work/jobs") programs for $(wc -l <"$work/ran") targets"
# The long ones first. A device's memory must do for all that use it at once.
compile() { sort -t ' ' -k 3,3n | xargs -r -P "$1" -L 1 sh "$here/compile.sh"; }
cores=$(getconf _NPROCESSORS_ONLN)
grep -v ' driver ' "$work/jobs" | compile "$cores"
grep ' driver ' "$work/jobs" | compile $((cores < 4 ? cores : 4))

# ---- judge ----
while read -r name vendor arch; do
    while IFS="$(printf '\t')" read -r n file options _; do
        [ -s "$work/$name/$n.rows" ] && continue
        bad "$name: cl/$file.cl doesn't compile with $options"
        head -n 5 "$work/$name/$n.log"
    done <"$work/$name/list"
    case "$vendor $arch" in "driver sm_"*)
        cut -f 2 "$work/$name"/*.rows | grep -q '[0-9]' || bad "$name: no build log tells registers" ;;
    esac
done <"$work/ran"
awk -v work="$work/planted" -f "$here/report.awk" "$targets" "$work/ran" >"$work/planted/report"
while read -r name vendor arch; do
    for k in scratch calls local_memory groups broken; do
        case "$vendor $arch $k" in # who doesn't tell; a CPU has no scratch
        "intel "*" calls" | "driver "*" calls" | "driver cpu scratch") continue ;;
        esac
        grep -q "^FAIL: $name: $k of" "$work/planted/report" || bad "$name: a planted fault isn't noticed: $k"
    done
done <"$work/ran"
awk -v work="$work" -f "$here/report.awk" "$targets" "$work/ran" || fail=1
[ $fail = 0 ] && echo "ok"
exit $fail
