#!/bin/sh
# The operator tests on a second OpenCL implementation: Mesa's rusticl on llvmpipe. Its own shader cache is off,
# so every launch compiles.
RUSTICL_ENABLE=llvmpipe
CASTOR_DEVICE=llvmpipe
export RUSTICL_ENABLE CASTOR_DEVICE
"$CASTOR" devices 2>/dev/null | grep -q llvmpipe || { echo "skipped: no rusticl (Debian: mesa-opencl-icd)"; exit 77; }
fail=0
for t in memory gemm op_activation op_adamw op_cast op_cross_entropy op_embed op_fill op_grad_norm op_layer_norm op_linear op_residual op_attention op_attention_decode; do
    log=$(timeout 900 "$builddir/tests/check_$t" 2>&1) || { fail=1; echo "FAIL: check_$t"; }
    printf '%s\n' "$log" | tail -n 3
done
exit $fail
