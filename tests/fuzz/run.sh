#!/bin/sh
# Build and run the fuzz targets: `make fuzz` calls it. Each runs for FUZZ_SECONDS (600) from a copy of its seeds; FUZZ_TARGETS
# chooses some of them ("config tokens"). What libFuzzer finds stays in fuzz/, and the exit status is then 1.
src=${srcdir:-.}
CLANG=${CLANG:-clang}
seconds=${FUZZ_SECONDS:-600}
flags="-std=gnu11 -D_GNU_SOURCE -DCL_TARGET_OPENCL_VERSION=120 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -Wno-unknown-pragmas"
flags="$flags -I$src/src -I$src/tests/fuzz $FUZZ_CFLAGS"
# what the parsers are made of; no device, no models
parts="$src/src/base/*.c $src/src/text/*.c $src/src/io/*.c $src/src/model/config.c $src/src/model/names.c
    $src/src/memory/trace.c $src/src/memory/trace_file.c"
libs=${FUZZ_LIBS:--ljansson -lpcre2-8 -lzip -lxxhash -lm}
fail=0
mkdir -p fuzz || exit 99
for file in "$src"/tests/fuzz/fuzz_*.c; do
    name=$(basename "$file" .c)
    name=${name#fuzz_}
    case " ${FUZZ_TARGETS:-$name} " in *" $name "*) ;; *) continue ;; esac
    # shellcheck disable=SC2086 # lists of words
    $CLANG $flags $parts "$file" -o "fuzz/$name" $libs || exit 99
    mkdir -p "fuzz/corpus-$name" "fuzz/found-$name"
    cp "$src/tests/fuzz/seeds-$name"/* "fuzz/corpus-$name"
    echo "== $name for $seconds s"
    ASAN_OPTIONS=allocator_may_return_null=1 "fuzz/$name" -max_total_time="$seconds" -print_final_stats=1 -verbosity=0 -timeout=20 \
        -rss_limit_mb=2048 -artifact_prefix="fuzz/found-$name/" "fuzz/corpus-$name" || fail=1
done
[ $fail = 0 ] && echo "nothing found"
exit $fail
