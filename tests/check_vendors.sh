#!/bin/sh
# make check-vendors by a driver that is here, with few programs: PoCL in both shapes, and what it makes of ptxas's log, which here is
# made up. That planted faults are noticed is part of each run.
"$CASTOR" devices 2>/dev/null | grep -q "Portable Computing Language" || { echo "skipped: no PoCL"; exit 77; }
cd "${srcdir:-.}" || exit 99
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
fail=0
bad() { echo "FAIL: $*"; cat "$dir/outp"; fail=1; }

# run STATUS [NAME=VALUE...]: the check, with these settings
run() {
    want=$1
    shift
    env WORK="$dir/work" VENDORS=driver DEVICE=Portable FILES="fill grad_norm" TARGETS= HEADS= LIST_PROGRAMS="$builddir/tests/vendors/list_programs" \
        DRIVER="$builddir/tests/vendors/driver" "$@" bash tests/vendors/check.sh >"$dir/outp" 2>&1
    got=$?
    [ $got = "$want" ] || bad "check.sh with $*: status $got, not $want"
}

# told REGISTERS SCRATCH LOCAL ITEMS KERNEL: its line of the table; -: any
told() {
    awk -v r="$1" -v s="$2" -v l="$3" -v i="$4" -v k="$5" '
        $1 == "driver" && $2 == k { n++; if ((r != "-" && $3 != r) || $4 != s || (l != "-" && $6 != l) || (i != "-" && $7 != i)) n = 9 }
        END { exit n != 1 }' "$dir/outp" || bad "the table tells another thing of $5"
}

run 0
told - 0 0 - fill
run 0 CASTOR_GPU_SHAPE=1
told - 0 0 128 fill
told - 0 512 128 grad_norm_partial
mkdir "$dir/cl" && cp cl/* "$dir/cl" && echo '#error planted' >>"$dir/cl/fill.cl"
run 1 CASTOR_CL_DIR="$dir/cl"
grep -q "^FAIL: driver: cl/fill.cl doesn't compile" "$dir/outp" || bad "a program that doesn't build isn't noticed"

# A driver as NVIDIA's: $SPILLS has spills, $CALLS a function with memory; $SILENT: the log is empty.
cat >"$dir/driver" <<'D'
#!/bin/sh
[ $# != 1 ] || { printf '# "made up" (none, driver 1)\ndriver driver sm_90 1024 49152 - 0 - - - - -\n'; exit 0; }
case $3 in
*FAULT=3*) echo "ptxas error   : Entry function 'local_memory' uses too much shared data (0x28000 bytes, 0xc000 max)" >&2; exit 1 ;;
*FAULT=5*) exit 1 ;;
esac
[ -z "$SILENT" ] || exec 2>/dev/null
printf '\nptxas info    : 0 bytes gmem\n' >&2
for k in $(sed -n 's/^__kernel.* void \([a-z_]*\)(.*/\1/p' "$2"); do
    printf '%s\t-\t0\t512\t0\t32\t1024\t0\n' "$k"
    case "$k $3" in
    "$SPILLS "*) memory="24 bytes stack frame, 20 bytes spill stores, 28" ;;
    *FAULT=1*) memory="1024 bytes stack frame, 0 bytes spill stores, 0" ;;
    *) memory="0 bytes stack frame, 0 bytes spill stores, 0" ;;
    esac
    case $k in "$CALLS") more="72 bytes cumulative stack size, " ;; *) more= ;; esac
    cat >&2 <<L
ptxas info    : Compiling entry function '$k' for 'sm_90'
ptxas info    : Function properties for $k
ptxas         .     $memory bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, ${more}512 bytes smem, 584 bytes cmem[0]
ptxas info    : Function properties for a_function
ptxas         .     64 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
info    : Function properties for '$k':
info    : used 40 registers, 0 stack, 512 bytes smem, 584 bytes cmem[0], 0 bytes lmem
L
done
D
chmod +x "$dir/driver"
run 0 DRIVER="$dir/driver" CASTOR_GPU_SHAPE=1
told 40 0 512 128 fill
grep -q '^driver *fill .* 48/64 *registers' "$dir/outp" || bad "how many warps fit isn't told"
run 1 DRIVER="$dir/driver" CASTOR_GPU_SHAPE=1 SPILLS=grad_norm_partial CALLS=grad_norm_finish
told 40 24 512 128 grad_norm_partial
told 40 72 512 128 grad_norm_finish
told 40 0 512 128 fill
grep '^FAIL' "$dir/outp" | sed 's/ of .*: spills: .*//' | cut -d ' ' -f 3 | sort | tr '\n' ' ' | grep -qx 'grad_norm_finish grad_norm_partial ' ||
    bad "other failures than two kernels' spills"
run 1 DRIVER="$dir/driver" CASTOR_GPU_SHAPE=1 SILENT=1
grep -q "^FAIL: driver: no build log tells registers" "$dir/outp" || bad "a silent driver isn't noticed"
[ $fail = 0 ] && echo "ok"
exit $fail
