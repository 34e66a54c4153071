#!/bin/sh
# compile.sh WORK TARGET N: compile program N of TARGET's list and write WORK/TARGET/N.rows: kernel, registers, bytes of scratch
# of a work-item (Intel: of a thread), bytes of local memory, calls left over, work-items of a hardware thread, separated by
# tabs; "-" where only the driver tells. A driver adds: most work-items of a group, bytes of private memory.
# WORK/TARGET/N.log: what the compiler says. tests/vendors/check.sh starts it, with $targets, a file.
work=$1 target=$2 n=$3
dir=$work/$target src=$work/$target/$n.cl log=$work/$target/$n.log out=$work/$target/$n.out
set -- $(grep "^$target " "$targets")
vendor=$2 arch=$3 isa=${12}
options=$(awk -F '\t' -v n="$n" '$1 == n { print $3 }' "$dir/list")

# What ptxas says, of each function: regs, smem, and stack, bytes of memory of a work-item. Compiled for a kernel, functions it calls
# are told of as well; the cumulative stack includes theirs.
ptxas='
    function number(what) { return match($0, "[0-9]+ " what) ? substr($0, RSTART) + 0 : 0 }
    function larger(bytes) { if (bytes > stack[f]) stack[f] = bytes }
    function ptxas_line() {
        if (/Compiling entry function/) { split($0, at, "\047"); entry = at[2] }
        if (/Function properties for /) { f = $0; sub(/.*Function properties for /, "", f); gsub(/[\047: \t\r]/, "", f) }
        if (/bytes stack frame/) { larger(number("bytes stack frame")); larger(number("bytes spill stores")) }
        if (/: Used [0-9]+ registers/) {
            if (entry != "") f = entry
            regs[f] = number("registers"); smem[f] = number("bytes smem")
            larger(number("bytes cumulative stack size"))
        }
    }'

# clang as an OpenCL compiler; --: bitcode to link
opencl() {
    all=
    for b in "$@"; do all="$all -Xclang -mlink-builtin-bitcode -Xclang $b"; done
    # shellcheck disable=SC2086
    "$CLANG" -x cl -cl-std=CL1.2 -Xclang -finclude-default-header -nogpulib -O3 -S -Wno-linker-warnings $machine $options $all "$src" -o "$out"
}

intel() {
    # the newer binary format tells in plain text what each kernel takes
    ocloc compile -q -file "$src" -device "$arch" -options "$options" -internal_options "-cl-intel-allow-zebin" -output_no_suffix \
        -output "$n.out" -out_dir "$dir" || return 1
    rm -f "$out.spv"
    LC_ALL=C grep -a '^ *\(- \)\?[a-z_0-9]*: *[^ ]*$\|^[a-z_]*:' "$out" | tr -d '\000\r' | awk '
        function put() { if (name != "") printf "%s\t%s\t%d\t%d\t%d\t%d\n", name, regs, scratch, slm, calls, simd; name = "" }
        /^[a-z_]+:/ { put(); kernels = /^kernels:/ }
        !kernels { next }
        /^  - name:/ { put(); name = $3; regs = scratch = slm = calls = simd = 0; memory = 0 }
        $1 == "grf_count:" { regs = $2 }
        $1 == "simd_size:" { simd = $2 }
        $1 == "slm_size:" { slm = $2 }
        $1 == "has_stack_calls:" && $2 == "true" { calls = 1 }
        /^    [a-z_]+:/ { memory = /per_thread_memory_buffers/ }
        memory && $1 == "size:" { scratch += $2 }
        END { put() }'
}

amd() {
    case $arch in gfx9*) wide=on ;; *) wide=off ;; esac
    for i in $(echo "$isa" | tr , ' '); do [ -f "$BITCODE/oclc_isa_version_$i.bc" ] && break; done
    machine="-target amdgcn-amd-amdhsa -mcpu=$arch"
    set -- opencl ocml ockl oclc_daz_opt_off oclc_finite_only_off oclc_unsafe_math_off oclc_correctly_rounded_sqrt_on \
        oclc_abi_version_500 oclc_wavefrontsize64_$wide "oclc_isa_version_$i"
    files=
    for b in "$@"; do files="$files $BITCODE/$b.bc"; done
    # shellcheck disable=SC2086
    opencl $files || return 1
    # calls stand in the code, the rest in the metadata behind it
    awk '
        function put() {
            if (name != "") printf "%s\t%d\t%d\t%d\t%d\t%d\n", name, vgprs, scratch, lds, calls[name] + dynamic, wave
            name = ""
        }
        /^[A-Za-z_0-9]+:/ { split($1, at, ":"); f = at[1] }
        $1 ~ /^s_(swappc|call)/ { calls[f]++ }
        /amdhsa.kernels:/ { meta = 1 }
        !meta { next }
        /^  - \.|^amdhsa\.[tv]/ { put(); name = ""; vgprs = scratch = lds = dynamic = wave = 0; sub(/^  - /, "    ") }
        /^    \.name:/ { name = $2 }
        /^    \.vgpr_count:/ { vgprs = $2 }
        /^    \.private_segment_fixed_size:/ { scratch = $2 }
        /^    \.group_segment_fixed_size:/ { lds = $2 }
        /^    \.uses_dynamic_stack: *true/ { dynamic = 1 }
        /^    \.wavefront_size:/ { wave = $2 }
        END { put() }' "$out"
}

nvidia() {
    machine="-target nvptx64-nvidia-nvcl -Xclang -target-cpu -Xclang $arch"
    # the one builtin that libclc lacks; NVIDIA's driver passes it in these registers
    cat >>"$src" <<'C'
size_t __attribute__((overloadable)) get_global_offset(uint d)
{
    uint n;
    if (d == 0) __asm__("mov.u32 %0, %%envreg3;" : "=r"(n));
    else if (d == 1) __asm__("mov.u32 %0, %%envreg4;" : "=r"(n));
    else __asm__("mov.u32 %0, %%envreg5;" : "=r"(n));
    return n;
}
C
    opencl "$LIBCLC" || return 1
    if [ -n "$PTXAS" ]; then # without it registers and local memory are the driver's secret
        "$PTXAS" -arch="$arch" -v "$out" -o "$out.cubin" >"$out.info" 2>&1 || { cat "$out.info" >&2; return 1; }
        rm -f "$out.cubin"
    else
        : >"$out.info"
    fi
    awk "$ptxas"'
        FILENAME == ARGV[1] { ptxas_line(); next }
        /^[ \t]*\.?(visible )?\.entry / { name = $0; sub(/.*\.entry /, "", name); sub(/\(.*/, "", name); kernel[++n] = name }
        /^}/ { name = "" }
        name != "" && $1 ~ /^call/ { calls[name]++ }
        name != "" && /\.local .*__local_depot/ { split($0, at, /[][]/); depot[name] += at[2] }
        END {
            for (i = 1; i <= n; i++) {
                f = kernel[i]
                printf "%s\t%s\t%d\t%s\t%d\t32\n", f, f in regs ? regs[f] : "-", f in regs ? stack[f] : depot[f], f in regs ? smem[f] + 0 : "-", calls[f]
            }
        }' "$out.info" "$out"
}

# the OpenCL driver of a device that is here; NVIDIA's log is empty for what its cache has
driver() {
    CUDA_CACHE_DISABLE=1 "$DRIVER" "$DEVICE" "$src" "$options" >"$out" 2>"$out.info"
    ended=$?
    cat "$out.info" >&2
    [ $ended = 0 ] || return 1
    awk -F '\t' -v OFS='\t' "$ptxas"'
        FILENAME == ARGV[1] { ptxas_line(); next }
        $1 in regs { $2 = regs[$1]; $3 = stack[$1] + 0 }
        { print }' "$out.info" "$out"
}

"$vendor" >"$dir/$n.rows" 2>"$log" || rm -f "$dir/$n.rows"
rm -f "$out" "$out".*
exit 0
