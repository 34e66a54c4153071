#!/bin/sh
# Do the tests notice? Plants one fault at a time in a copy of the kernels (a sign, an index, a missing term: the
# list is tests/faults) and requires the named test to fail. Every kernel file must have at least one.
src=${srcdir:-.}
dir=$(mktemp -d "${TMPDIR:-/tmp}/castor-faults.XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
"$CASTOR" devices >/dev/null 2>&1 || { echo "skipped: no OpenCL device"; exit 77; }
fail=0 planted=0
CASTOR_CACHE_DIR=$dir/cache
CASTOR_CL_DIR=$dir/cl
export CASTOR_CACHE_DIR CASTOR_CL_DIR

# plant FILE OLD NEW: replace the one line part OLD by NEW in the copy
plant() {
    rm -rf "$dir/cl"
    mkdir "$dir/cl" && cp "$src"/cl/* "$dir/cl/" && chmod u+w "$dir/cl"/*
    OLD=$2 NEW=$3 awk '
        { i = index($0, ENVIRON["OLD"])
          if (i) { n++; $0 = substr($0, 1, i - 1) ENVIRON["NEW"] substr($0, i + length(ENVIRON["OLD"])) }
          print }
        END { exit n == 1 ? 0 : 1 }' "$dir/cl/$1" >"$dir/new" || return 1
    mv "$dir/new" "$dir/cl/$1"
}

while IFS='|' read -r name file old new shape; do
    case $name in '' | '#'*) continue ;; esac
    planted=$((planted + 1))
    if ! plant "$file" "$old" "$new"; then
        echo "FAIL: cl/$file: \"$old\" isn't there exactly once"
        fail=1
        continue
    fi
    unset CK_RUN_CASE
    if [ "$name$shape" = gemm ]; then CK_RUN_CASE=short && export CK_RUN_CASE; fi # the other cases cost minutes of kernel builds
    case $name in
    "bench "*) set -- "$CASTOR" bench device --quick --quiet --rows "${name#bench }" ;; # checks its results itself
    *) set -- "$builddir/tests/check_$name" ;;
    esac
    if [ "$shape" = gpu ]; then CASTOR_GPU_SHAPE=1 timeout 600 "$@" >"$dir/log" 2>&1
    else timeout 600 "$@" >"$dir/log" 2>&1; fi
    got=$?
    if grep -q "doesn't build" "$dir/log"; then echo "FAIL: cl/$file with \"$new\" doesn't build: no fault of arithmetic"; fail=1
    elif [ $got != 1 ]; then echo "FAIL: cl/$file with \"$new\" for \"$old\": $* ended with $got, unnoticed"; fail=1
    else echo "noticed: cl/$file: $new"; fi
done <"$src/tests/faults"
echo "$planted faults planted"
[ $planted -ge 11 ] || fail=1
exit $fail
