#include "text/utf8.h"

#include <string.h>

int cst_utf8_character(const char *text, const char *end, int *cut)
{
    const unsigned char *p = (const unsigned char *)text;
    unsigned c = *p, low = 0x80, high = 0xbf;
    int n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0, k = 1;
    if (cut) *cut = 0;
    if (n < 2) return n ? n : -1;
    if (c == 0xe0) low = 0xa0;
    if (c == 0xed) high = 0x9f;
    if (c == 0xf0) low = 0x90;
    if (c == 0xf4) high = 0x8f;
    for (; k < n && text + k < end && p[k] >= low && p[k] <= high; k++) low = 0x80, high = 0xbf;
    if (k == n) return n;
    if (cut) *cut = text + k == end;
    return -k;
}

/* As much of p[n] as is decided; the rest is kept. */
static size_t take(cst_utf8 *u, char *out, const char *p, size_t n, int last)
{
    const char *end = p + n;
    char *to = out;
    while (p < end) {
        int cut, k = cst_utf8_character(p, end, &cut);
        if (cut && !last) break;
        memcpy(to, k > 0 ? p : "\xef\xbf\xbd", k > 0 ? (size_t)k : 3);
        to += k > 0 ? k : 3;
        p += k > 0 ? k : -k;
    }
    u->n = (int)(end - p);
    memmove(u->kept, p, (size_t)u->n);
    return (size_t)(to - out);
}

size_t cst_utf8_next(cst_utf8 *u, char *out, const char *piece, size_t n)
{
    char first[8];
    size_t kept = (size_t)u->n, more = n < 4 ? n : 4, done;
    if (!piece) return take(u, out, u->kept, kept, 1);
    if (!kept) return take(u, out, piece, n, 0);
    memcpy(first, u->kept, kept);
    memcpy(first + kept, piece, more);
    done = take(u, out, first, kept + more, 0);
    if (n == more) return done;
    more -= (size_t)u->n; /* at most 3 bytes, all of the piece: they come again with the rest of it */
    return done + take(u, out + done, piece + more, n - more, 0);
}
