#!/bin/sh
# bench/castor_opt.ipynb runs from top to bottom without a screen, small: no cell fails, and each shows what it should.
dir=$(mktemp -d "${TMPDIR:-/tmp}/castor-notebook.XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
bench=${srcdir:-.}/bench
fail=0
bad() { echo "FAIL: $*"; fail=1; }
"$CASTOR" devices >/dev/null 2>&1 || { echo "skipped: no OpenCL device"; exit 77; }
# the system's, too, as Debian's matplotlib is for that one only
python=
for p in ${PYTHON:-python3 /usr/bin/python3}; do "$p" -c 'import matplotlib' 2>/dev/null && { python=$p; break; }; done
[ "$python" ] || { echo "skipped: no Python with matplotlib (apt-get install python3-matplotlib)"; exit 77; }

cat >"$dir/model.json" <<'J'
{"model_type": "opt", "vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2, "ffn_dim": 256,
 "num_attention_heads": 4, "max_position_embeddings": 64, "word_embed_proj_dim": 32, "do_layer_norm_before": false}
J
# execute OUT [NAME=VALUE]...: with a budget in which ddp doesn't fit batch 2
execute() {
    out=$1
    shift
    env CONFIG="$dir/model.json" BATCHES=1,2 STEPS=2 SEQ=32 DEVICE_MEM=2300KiB CASTOR="$CASTOR" RESULT="$dir/plugins.json" MPLBACKEND=agg "$@" \
        "$python" "$bench/execute_notebook.py" "$bench/castor_opt.ipynb" --out "$out" >"$dir/out" 2>&1
}

execute "$dir/executed.ipynb" || { bad "exit $?"; cat "$dir/out"; }
"$python" - "$dir/executed.ipynb" "$dir/plugins.json" <<'P' || bad "the executed notebook isn't as it should be"
import base64, json, sys
book, result = (json.load(open(f)) for f in sys.argv[1:])
cells = {c["id"]: c for c in book["cells"] if c["cell_type"] == "code"}
for name, cell in cells.items():
    assert cell["execution_count"], name
    assert all(o["output_type"] in ("stream", "execute_result") for o in cell["outputs"]), name
    assert cell["outputs"] or name == "settings", name
assert len(result["rows"]) == 8, len(result["rows"])
missing = [r["plugin"] for r in result["rows"] if "need_bytes" in r]
assert missing and "gemini" not in missing, missing
table = "".join(cells["table"]["outputs"][0]["data"]["text/html"])
assert table.count("<tr>") == 9 and "not yet" in table and "GiB more" in table, table
for name in "pictures", "memory":
    png = base64.b64decode(cells[name]["outputs"][-1]["data"]["image/png"])
    assert png.startswith(b"\x89PNG") and len(png) > 5000, name
P

# A cell that fails is told, and ends the run.
execute "$dir/failed.ipynb" SEQ=65 && bad "a failure isn't told"
grep -q '"output_type": "error"' "$dir/failed.ipynb" || bad "a failure isn't in the notebook"
grep -q "positions for 64 tokens" "$dir/failed.ipynb" || bad "castor's message isn't in the notebook"
grep -q '"text/html"' "$dir/failed.ipynb" && bad "cells ran after a failure"

# What travels with Castor has no error in it either.
grep -q '"output_type": "error"' "$bench/castor_opt.ipynb" && bad "bench/castor_opt.ipynb has a failed cell"
[ $fail = 0 ] && echo "ok"
exit $fail
