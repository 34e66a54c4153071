#!/bin/sh
# Some operator tests under oclgrind, which checks every memory access and looks for data races. It ends with 0
# even when it finds something, so its log must be empty. Slow: the smallest sizes only (CASTOR_SMALL=1).
command -v oclgrind >/dev/null 2>&1 || { echo "skipped: no oclgrind (Debian: oclgrind)"; exit 77; }
dir=$(mktemp -d "${TMPDIR:-/tmp}/castor-oclgrind.XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
fail=0
CASTOR_SMALL=1
CASTOR_CACHE_DIR=$dir/cache
export CASTOR_SMALL CASTOR_CACHE_DIR
for shape in cpu gpu; do
    [ $shape = gpu ] && { CASTOR_GPU_SHAPE=1; export CASTOR_GPU_SHAPE; }
    for t in fill residual layer_norm activation embed cast grad_norm adamw cross_entropy attention; do
        log=$dir/$t-$shape.log
        CASTOR_DEVICE=oclgrind timeout 600 oclgrind --log "$log" --data-races --uninitialized "$builddir/tests/check_op_$t" >"$dir/out" 2>&1
        got=$?
        tail -n 1 "$dir/out"
        [ $got = 0 ] || { echo "FAIL: check_op_$t ($shape) under oclgrind: exit $got"; tail -n 5 "$dir/out"; fail=1; }
        [ -s "$log" ] && { echo "FAIL: check_op_$t ($shape): oclgrind found"; head -n 20 "$log"; fail=1; }
    done
done
exit $fail
