#!/bin/sh
# The operator tests with kernels shaped as for a GPU (work-groups that share a row, short vectors), on whatever
# device there is. On a GPU this is what the other tests do already.
"$CASTOR" devices >/dev/null 2>&1 || { echo "skipped: no OpenCL device"; exit 77; }
CASTOR_GPU_SHAPE=1
export CASTOR_GPU_SHAPE
fail=0
for t in op_activation op_adamw op_cast op_cross_entropy op_embed op_fill op_grad_norm op_layer_norm op_linear gemm op_residual op_attention op_attention_decode selftest model generate; do
    log=$(timeout 900 "$builddir/tests/check_$t" 2>&1) || { fail=1; echo "FAIL: check_$t"; }
    printf '%s\n' "$log" | tail -n 3
done
exit $fail
