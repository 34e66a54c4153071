# The table of make check-vendors, from what compile.sh wrote: all of it to WORK/table, and here, for each kernel and target,
# its worst figures over the options it is built with. Ends with 1 when a kernel breaks a rule.
# Files: targets, then the names of those that ran.
function least(a, b) { return a < b ? a : b }
function whole(a) { return a == int(a) ? a : int(a) + 1 }
function bad(text) { printf "FAIL: %s: %s of cl/%s.cl: %s (%s)\n", t, k, file, text, options; failed = 1 }

# Hardware threads of a compute unit at once, of this kernel with groups of `items`; `limit` says what keeps them from being
# more. 0: not one group fits.
function resident(items, regs, lds, width,    of_group, by_regs, most, groups, by_local) {
    limit = "-"
    if (parts[t] == "-") return -1 # nothing is known of this device's compute units
    of_group = whole(items / width)
    most = parts[t] * threads[t]
    by_regs = regs == "-" || regs == 0 ? most : parts[t] * least(threads[t], int(registers[t] / (whole(regs / step[t]) * step[t])))
    groups = int(by_regs / of_group)
    limit = by_regs < most ? "registers" : groups * of_group < most ? "group" : "-"
    by_local = lds == "-" || lds == 0 ? groups : int(unit_local[t] / lds)
    if (by_local < groups) { groups = by_local; limit = "local" }
    return groups * of_group
}

function program(    row, f, has, i, pair, items, kernels, at, line, most, private) {
    n = split(launches, pair, " ")
    while ((getline row < (work "/" t "/" number ".rows")) > 0) {
        split(row, f, "\t")
        has[f[1]] = row
    }
    close(work "/" t "/" number ".rows")
    for (i = 1; i <= n; i++) {
        split(pair[i], at, ":")
        k = at[1]
        items = at[2]
        if (!(k in has)) { bad("the compiler tells nothing of it"); continue }
        split(has[k], f, "\t")
        most = f[7] == "" ? group[t] : f[7]
        private = f[8] == "" ? "-" : f[8]
        waves = resident(items, f[2], f[4], f[6])
        if (f[3] > 0) bad("spills: " f[3] " bytes of scratch")
        if (f[5] > 0) bad(f[5] " calls left over")
        if (f[4] != "-" && f[4] > local[t]) bad(f[4] " bytes of local memory, of " local[t])
        if (items > most) bad("groups of " items " work-items, of " most)
        else if (!waves) bad("no group fits a compute unit: its limit is " limit)
        line = sprintf("%-14s %-28s %9s %8d %7s %7s %6d %5d %5d %9s %-9s", t, k, f[2], f[3], private, f[4], items, most, f[6], \
                       waves < 0 ? "-   " : sprintf("%d/%-3d", waves, parts[t] * threads[t]), limit)
        printf "%s %s\n", line, options > (work "/table")
        rank = f[3] * 1e6 + (f[2] == "-" ? private : f[2]) * 1e3 + 999 - waves
        if (!((t, k) in worst) || rank > worst[t, k]) { worst[t, k] = rank; text[t, k] = line " " short }
        if (!(k in seen)) { seen[k] = 1; order[++kinds] = k }
        if (f[2] != "-" && f[2] > most_regs[t]) { most_regs[t] = f[2]; most_kernel[t] = k " " short }
        if (f[3] > 0) with_scratch[t]++
        rows[t]++
    }
}

FILENAME == ARGV[1] {
    if ($1 ~ /^#/ || NF == 0) next
    group[$1] = $4; local[$1] = $5; unit_local[$1] = $6; parts[$1] = $8; threads[$1] = $9; registers[$1] = $10; step[$1] = $11
    next
}
{
    t = $1
    ran[++targets] = t
    while ((getline line < (work "/" t "/list")) > 0) {
        split(line, field, "\t")
        number = field[1]; file = field[2]; options = field[3]; launches = field[4]
        short = options
        sub(/^-DWG=[0-9]* -DVW=[0-9]*( -cl-fp32-correctly-rounded-divide-sqrt)? ?/, "", short)
        gsub(/ ?-D(TX|TY|TILE|SUB_GROUP)=[0-9]*/, "", short)
        program()
    }
}
END {
    printf "%-14s %-28s %9s %8s %7s %7s %6s %5s %5s %9s %-9s %s\n", "target", "kernel", "registers", "scratch", "private", "local", "items", "most", "width", "threads", "limit", "options"
    for (i = 1; i <= kinds; i++)
        for (j = 1; j <= targets; j++)
            if ((ran[j], order[i]) in text) print text[ran[j], order[i]]
    print ""
    for (j = 1; j <= targets; j++)
        printf "%-14s %4d kernels, %d with scratch; most registers: %s %s\n", ran[j], rows[ran[j]], with_scratch[ran[j]], ran[j] in most_regs ? most_regs[ran[j]] : "-", most_kernel[ran[j]]
    exit failed
}
