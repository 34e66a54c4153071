#!/bin/sh
# The operator tests and generation on a second OpenCL implementation: Mesa's rusticl on llvmpipe. It prepares a kernel
# anew for every launch, which takes a millisecond at least, so texts are short.
RUSTICL_ENABLE=llvmpipe
CASTOR_DEVICE=llvmpipe
CASTOR_TEST_TOKENS=5
export RUSTICL_ENABLE CASTOR_DEVICE CASTOR_TEST_TOKENS
"$CASTOR" devices 2>/dev/null | grep -q llvmpipe || { echo "skipped: no rusticl (Debian: mesa-opencl-icd)"; exit 77; }
fail=0
for t in memory gemm op_activation op_adamw op_cast op_cross_entropy op_embed op_fill op_grad_norm op_layer_norm op_linear op_residual op_attention op_attention_decode generate; do
    log=$(timeout 900 "$builddir/tests/check_$t" 2>&1) || { fail=1; echo "FAIL: check_$t"; }
    printf '%s\n' "$log" | tail -n 3
done
exit $fail
