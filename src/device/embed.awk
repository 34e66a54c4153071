# Turns the kernel files into a C table of strings: awk -f embed.awk cl/a.cl cl/common.clh ...
function flush_file() { if (open) print "    },"; open = 0 }
BEGIN { print "/* Generated from cl/ by embed.awk. */"; print "#include \"device/source.h\"\n"; print "const cst_embedded cst_embedded_files[] = {" }
FNR == 1 {
    flush_file()
    name = FILENAME
    sub(/.*\//, "", name)
    print "    {\"" name "\","
    open = 1
}
{
    line = $0
    gsub(/\\/, "&&", line)
    gsub(/"/, "\\\\&", line)
    gsub(/\?/, "\\\\&", line)
    print "     \"" line "\\n\""
}
END { flush_file(); print "    {0, 0}\n};" }
