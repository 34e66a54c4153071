#!/bin/sh
# castor bench device: its rows, what it says when something is missing, and that it notices wrong results.
src=${srcdir:-.}
case $src in /*) ;; *) src=$(pwd)/$src ;; esac
dir=$(mktemp -d "${TMPDIR:-/tmp}/castor-bench.XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
fail=0
bad() { echo "FAIL: $*"; sed 's/^/    /' "$dir/err"; fail=1; }
# run STATUS option...
run() {
    want=$1
    shift
    "$CASTOR" bench device --quick "$@" >"$dir/out" 2>"$dir/err" </dev/null
    got=$?
    [ $got = "$want" ] || bad "bench device $*: exit $got, wanted $want"
}
# has WORDS: on stdout
has() { grep -q -- "$1" "$dir/out" || { bad "no \"$1\" in the result:"; cat "$dir/out"; }; }

"$CASTOR" devices >/dev/null 2>&1 || { echo "skipped: no OpenCL device"; exit 77; }

# Rows that were asked for, with the ceiling they need, and no other.
run 0 --rows softmax --rows launch,transfer --json
for m in device rows row case unit value spread seconds ceiling ceiling_of error limit less; do has "\"$m\":"; done
for r in triad softmax launch transfer; do has "\"row\": \"$r\""; done
grep -q '"row": "\(peak\|gemm\|fft\)"' "$dir/out" && bad "a row that nobody asked for"
grep -q '"value": \(-\|0\.0*,\)' "$dir/out" && bad "a rate or time that isn't above 0"
if command -v python3 >/dev/null; then
    python3 -c '
import json, sys
for r in json.load(open(sys.argv[1]))["rows"]:
    assert "missing" in r or (r["value"] > 0 and r["seconds"] > 0 and 0 <= r["error"] <= r["limit"]), r
' "$dir/out" || bad "a row's numbers don't fit together"
fi
run 0 --rows launch
has "^launch .* us "

run 2 --rows triad,quad
grep -q 'no row "quad"; there are peak, triad' "$dir/err" || bad "the message for an unknown row"
[ -s "$dir/out" ] && bad "something on stdout though it failed"

# What the device lacks stands in its row.
run 0 --rows triad --device-mem 32MiB --json
has '"missing": .*budget'

# A wrong result is a row without a value, the others stay, and the exit status says it.
mkdir "$dir/cl" && cp "$src"/cl/* "$dir/cl/" && chmod u+w "$dir"/cl/*
sed 's/y\[get_group_id(0)\] = all;/y[get_group_id(0)] = all + 1.0f;/' "$src/cl/bench_memory.cl" >"$dir/cl/bench_memory.cl"
CASTOR_CL_DIR=$dir/cl run 1 --rows reduction --json
has '"missing": "wrong result: error'
has '"row": "triad"'
grep -q "computes wrong results: reduction" "$dir/err" || bad "the message for a wrong result"

# Ctrl-C ends it between two cases, with what there is.
timeout --preserve-status -s INT 3 "$CASTOR" bench device --rows build,fft --json >"$dir/out" 2>"$dir/err" </dev/null
got=$?
[ $got = 130 ] || bad "after Ctrl-C: exit $got, wanted 130"
grep -q '"row": "build"' "$dir/out" && bad "it went on after Ctrl-C"

[ $fail = 0 ] && echo "ok"
exit $fail
