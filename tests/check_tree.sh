#!/bin/sh
# The tree keeps its rules: triads, one owner of device memory, nothing forgotten in the makefile, the manual in
# step with the program.
cd "${srcdir:-.}" || exit 99
fail=0
bad() { echo "FAIL: $*"; fail=1; }

# Every operator has its kernel file, its host file and its test.
for f in src/op/*.c; do
    x=$(basename "$f" .c)
    [ -f "cl/$x.cl" ] || bad "$f has no cl/$x.cl"
    [ -f "src/op/$x.h" ] || bad "$f has no header"
    [ -f "tests/check_op_$x.c" ] || bad "$f has no tests/check_op_$x.c"
    grep -q "\"$x\", cst_trial_$x," src/selftest/selftest.c || bad "$f has no trial in src/selftest"
done
for f in cl/*.cl; do
    x=$(basename "$f" .cl)
    case $x in
    gemm_*) grep -q "\"$x\"" src/gemm/*.c || bad "$f is used nowhere in src/gemm" ;;
    period) grep -q "\"$x\"" src/memory/*.c || bad "$f is used nowhere in src/memory" ;;
    bench_*) grep -q "\"$x\"" src/bench/*.c || bad "$f is used nowhere in src/bench" ;;
    *) [ -f "src/op/$x.c" ] || bad "$f has no src/op/$x.c" ;;
    esac
    grep -q "|$x.cl|" tests/faults || bad "$f has no planted fault in tests/faults"
done

# One owner of device memory: buffers are made in src/memory only, and there in one place besides registered
# host memory.
n=$(grep -nE 'clCreate(Buffer|SubBuffer|Image|Pipe)|clSVMAlloc' -r src --include=*.c | grep -v '^src/memory/' | grep -cv '"clCreate')
[ "$n" = 0 ] || bad "device memory is made outside src/memory"
n=$(grep -hE 'clCreateBuffer\(' -r src/memory | grep -cv 'CL_MEM_USE_HOST_PTR')
[ "$n" = 1 ] || bad "$n places in src/memory make device buffers"

# The hot path never waits for the whole device: clFinish stands in the memory and device rooms only.
grep -rlE 'clFinish|clWaitForEvents' src --include=*.c | grep -vE '^src/(memory|device)/' | grep . &&
    bad "clFinish outside src/memory and src/device"

# Kernels: no contraction by accident, no mad(), no relaxed math.
grep -nE '\bmad\(|fast-relaxed|native_' cl/* && bad "mad(), native_ or relaxed math in cl/"
for f in cl/*.cl; do grep -q '#include "common.clh"' "$f" || bad "$f doesn't include common.clh (FP_CONTRACT OFF)"; done

# Quirks: every flag is asked for, every entry without one is named where it is cared for, and nothing else looks at names.
for q in $(grep -oE 'CST_QUIRK_[A-Z_]+ =' src/device/quirks.h | cut -d' ' -f1); do
    grep -rlw "$q" src --include=*.c | grep -qv '^src/device/quirks.c' || bad "$q is asked for nowhere"
    grep -qw "$q" src/device/quirks.c || bad "$q is in no entry of src/device/quirks.c"
done
for q in $(grep -E '^    \{\.name = "' src/device/quirks.c | grep -vE '\.(flag|setting)' | cut -d'"' -f2); do
    grep -rlE "quirk $q\b" src cl | grep -qv '^src/device/quirks.c' || bad "the quirk $q is named nowhere in src"
done
n=$(grep -rnE '(str[a-z]+|cst_word_in)\(.*info\.(platform|vendor)\b' src --include=*.c | grep -cv '^src/device/')
[ "$n" = 0 ] || bad "$n places outside src/device look at the name of a platform or vendor: use src/device/quirks.c"

# Rooms: a room includes only rooms above it.
rooms="base device memory gemm op selftest text io model optim train bench cli"
above=
for r in $rooms; do
    above="$above $r"
    for inc in $(grep -hoE '#include "[a-z]+/' "src/$r"/*.[ch] | sed 's,.*",,; s,/,,' | sort -u); do
        case " $above " in *" $inc "*) ;; *)
            # config.json names the activation: model/config.h may use op's enum, and does, from above
            bad "src/$r includes src/$inc, which is below it" ;;
        esac
    done
done

# Everything is listed in Makefile.am.
for f in src/*/*.[ch] src/castor.h cl/*; do
    case $f in src/device/kernels.c) continue ;; esac
    grep -q "$f" Makefile.am || bad "$f is not in Makefile.am"
done
for f in tests/check_*.c; do grep -q "tests/$(basename "$f" .c)_\|tests/$(basename "$f" .c)\b" Makefile.am || bad "$f is not in Makefile.am"; done
for f in tests/check_*.sh; do grep -q "$f" Makefile.am || bad "$f is not in Makefile.am"; done

# Sizes.
for f in src/*/*.[ch] cl/*; do
    [ "$f" = src/device/kernels.c ] && continue
    n=$(wc -l <"$f")
    [ "$n" -le 700 ] || bad "$f has $n lines: split it by meaning"
done
n=$(($(find tests/fixtures -type f -exec cat {} + | wc -c) / 1024))
[ "$n" -le 1200 ] || bad "tests/fixtures has $n KiB"

# The manual is the program's own.
"$CASTOR" help --man | cmp -s - docs/castor.1 || bad "docs/castor.1 is out of step: make manual"
"$CASTOR" completion bash | cmp -s - docs/completion/castor || bad "docs/completion/castor is out of step: make manual"

[ $fail = 0 ] && echo "ok"
exit $fail
