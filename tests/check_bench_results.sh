#!/bin/sh
# castor bench submit and report: what is written, ratios, and what is said of results that can't be.
src=${srcdir:-.}
case $src in /*) ;; *) src=$(pwd)/$src ;; esac
dir=$(mktemp -d "${TMPDIR:-/tmp}/castor-results.XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
fail=0
bad() { echo "FAIL: $*"; sed 's/^/    /' "$dir/err"; fail=1; }

# expect STATUS WORDS command...: exit status, and words on stderr (or stdout for 0)
expect() {
    want=$1 words=$2
    shift 2
    "$@" >"$dir/outp" 2>"$dir/err" </dev/null
    got=$?
    [ $got = "$want" ] || bad "$* : exit $got, wanted $want"
    if [ "$want" = 0 ]; then grep -qF -- "$words" "$dir/outp" || bad "$* : stdout lacks \"$words\""
    else grep -qF -- "$words" "$dir/err" || bad "$* : stderr lacks \"$words\""; fi
}
has() { grep -qF -- "$2" "$1" || { : >"$dir/err"; bad "$1 lacks \"$2\""; }; }

a=$src/tests/fixtures/results/alpha.json b=$src/tests/fixtures/results/beta.json
report="$CASTOR bench report"

# Figures and ratios. 250 of 1000 GFLOP/s is 0.25; 5 us beside 20 is 4 times as good; missing cells are told.
expect 0 'triad,a = b + s c,"Beta & Co, ""2""",GB/s,no,50,0.5,' $report $a $b --format csv
has "$dir/outp" 'peak,the fastest way,Alpha,GFLOP/s,no,1000,1,0.1,0.001,,,1e-06,1e-05,'
has "$dir/outp" 'peak,the fastest way,"Beta & Co, ""2""",GFLOP/s,no,250,0.25,'
has "$dir/outp" 'launch,"one, waited for","Beta & Co, ""2""",us,yes,5,4,'
has "$dir/outp" 'training,"tiny, speed","Beta & Co, ""2""",tokens/s,no,2000,2,'
has "$dir/outp" 'gemm,native,Alpha,,,,,,,,,,,no kernel | here'
has "$dir/outp" 'training,"opt-125m, speed",Alpha,,,,,,,,,,,it needs more memory'
[ "$(wc -l <"$dir/outp")" = 18 ] || bad "csv has $(wc -l <"$dir/outp") lines"
has "$dir/err" "beta.json: incomplete: clFinish: CL_DEVICE_NOT_AVAILABLE"
expect 0 'launch,"one, waited for",Alpha,us,yes,20,0.25,' $report $a $b --format csv --ratio best
expect 0 'launch,"one, waited for",Alpha,us,yes,20,0.25,' $report $b $a --format csv
expect 0 '| one, waited for, us (less is better) | 20.0 (1.00×) | 5.00 (4.00×) |' $report $a $b
has "$dir/outp" '| native | no kernel \| here | – |'
has "$dir/outp" '| losses of training | as expected | as expected |'
expect 0 '| 1024 x 1024 x 1024 NN, CLBlast, GFLOP/s | 800 |' $report $a

# Files by their ends; names of devices are text everywhere; nothing from elsewhere.
expect 0 "$dir/r.svg" $report $a $b --out "$dir/r.html,$dir/r.md" --out "$dir/r.csv" --out "$dir/r.svg"
for f in html md csv svg; do [ -s "$dir/r.$f" ] || bad "no r.$f"; done
has "$dir/r.html" 'Beta &amp; Co, &quot;2&quot;'
has "$dir/r.html" 'Beta &lt;2&gt;'
has "$dir/r.html" 'aria-label="Roofline of Alpha"'
has "$dir/r.html" 'losses as expected'
has "$dir/r.svg" '2,000 tokens/s'
has "$dir/r.svg" 'Beta &amp; Co'
for f in html svg; do
    grep -qE '<script|src=|href=|url\(' "$dir/r.$f" && bad "r.$f takes something from elsewhere"
done
if command -v python3 >/dev/null; then
    python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' "$dir/r.svg" 2>"$dir/err" || bad "r.svg is no XML"
fi

# A wrong device: one loss 0.01 off, a loss that isn't finite.
sed 's/5.06126928/5.07126928/' $a >"$dir/off.json"
expect 0 '| losses of training | **differ: a wrong device** |' $report "$dir/off.json"
has "$dir/err" "1 of 1 training runs have other losses"
sed 's/5.06126928/null/' $a >"$dir/off.json"
expect 0 'losses differ' $report "$dir/off.json" --format html
sed 's/5.06126928/5.06127928/' $a >"$dir/near.json"
expect 0 '| losses of training | as expected |' $report "$dir/near.json"

# What can't be.
expect 2 "needs a FILE" $report
expect 2 "alpha.json and $a are both named \"Alpha\"" $report $a $a
expect 2 "ends in .html, .md, .csv or .svg" $report $a --out "$dir/x.pdf"
[ -e "$dir/x.pdf" ] && bad "x.pdf was made"
expect 2 "no such option" $report $a --rows gemm
expect 1 "none.json" $report "$dir/none.json"
echo '{"schema": 1' >"$dir/broken.json"
expect 1 "broken.json: line" $report "$dir/broken.json"
echo '{"losses": []}' >"$dir/other.json"
expect 1 'is this a result of castor bench submit?' $report "$dir/other.json"
sed 's/"schema": 1/"schema": 2/; s/"castor": "0.1.0"/"castor": "9.9"/' $a >"$dir/new.json"
expect 1 'new.json: "schema" is 2, written by castor 9.9; this castor' $report $b "$dir/new.json"
sed 's/"row": "triad"/"row": "warp"/' $a >"$dir/row.json"
expect 1 'row.json: rows[1]: "row": there is no row "warp"; those that there are: peak, triad' $report "$dir/row.json"
sed 's/"run": "tiny"/"run": "huge"/' $a >"$dir/run.json"
expect 1 'training[0]: "run": there is no training run "huge"' $report "$dir/run.json"
sed 's/"unit": "GB\/s"/"unit": "GFLOP\/s"/' $a | sed 's/"Alpha"/"Gamma"/' >"$dir/unit.json"
expect 1 "in other results in GB/s" $report $a "$dir/unit.json"
sed 's/NN, native/NN, CLBlast/' $b >"$dir/twice.json" # one case twice: the better figure counts
expect 0 'NN, CLBlast","Beta & Co, ""2""",GFLOP/s,no,225,' $report "$dir/twice.json" --format csv
sed -n '1,/^ "rows"/p' $a | sed '$s/.*/ "rows": [], "training": []}/' >"$dir/empty.json"
expect 1 'empty.json: nothing was measured' $report "$dir/empty.json"
expect 1 "/none/" $report $a --out "$dir/none/r.html"

# submit
"$CASTOR" devices >/dev/null 2>&1 || { echo "no OpenCL device: only reports tested"; exit $((fail ? 1 : 77)); }
submit="$CASTOR bench submit"
expect 2 "needs --out" $submit
expect 2 "warp" $submit --out "$dir/s.json" --rows warp
expect 2 "63" $submit --out "$dir/s.json" --name 0123456789012345678901234567890123456789012345678901234567890123
expect 1 "none" $submit --out "$dir/none/s.json"
expect 1 "no platform or device has it" $submit --out "$dir/s.json" --device nonexistent
[ -e "$dir/s.json" ] && bad "a result of nothing was written"
expect 0 "s.json" $submit --out "$dir/s.json" --rows launch --quick --name "Under test"
has "$dir/s.json" '"complete": true'
has "$dir/s.json" '"row": "launch"'
has "$dir/s.json" '"verdict": "as expected"'
for word in "$(hostname)" "$HOME" "$dir"; do
    [ ${#word} -gt 3 ] && grep -qF -- "$word" "$dir/s.json" && bad "s.json has $word"
done
expect 0 'training,"tiny, speed",Under test,tokens/s' $report "$dir/s.json" $a --format csv

# The device vanishes: at once, among the rows, in the training run. What was measured is there, the old file if nothing was.
if [ -e "${VANISH_LAYER:-none}" ] && OPENCL_LAYERS=$VANISH_LAYER VANISH_AFTER=0 "$CASTOR" bench op --only triad --repeat 1 2>&1 | grep -q NOT_AVAILABLE; then
    cp "$dir/s.json" "$dir/old.json"
    OPENCL_LAYERS=$VANISH_LAYER VANISH_AFTER=0 expect 1 "CL_DEVICE_NOT_AVAILABLE" $submit --out "$dir/s.json" --rows launch --quick
    cmp -s "$dir/s.json" "$dir/old.json" || bad "a device that was never there cost the old result"
    OPENCL_LAYERS=$VANISH_LAYER VANISH_AFTER=$(($(grep -c . "$a") * 1000)) expect 0 "s.json" $submit --out "$dir/s.json" --rows launch --quick
    for n in 300 1000 3000; do
        OPENCL_LAYERS=$VANISH_LAYER VANISH_AFTER=$n "$CASTOR" bench submit --out "$dir/v$n.json" --rows launch,build --quick >"$dir/outp" 2>"$dir/err"
        got=$?
        [ $got = 1 ] || [ $got = 0 ] || bad "vanished after $n launches: exit $got"
        [ $got = 1 ] && [ -e "$dir/v$n.json" ] || continue
        kept=1
        has "$dir/v$n.json" '"complete": false'
        has "$dir/v$n.json" 'CL_DEVICE_NOT_AVAILABLE'
        "$CASTOR" bench report "$dir/v$n.json" >"$dir/outp" 2>"$dir/err" || bad "the result of a device that vanished after $n launches can't be read"
    done
    [ "${kept:-0}" = 1 ] || bad "no vanished device left anything"
else
    echo "the OpenCL loader takes no layers: no device vanished"
fi

[ $fail = 0 ] && echo "ok"
exit $fail
