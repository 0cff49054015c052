/* unicode.c: see unicode.h. The only file that knows utf8proc. */
#include "data/unicode.h"

#include <stddef.h>

#ifdef MMF_WITH_UTF8PROC
#include <utf8proc.h>
#endif

static bool is_among(const mmf_code_range *ranges, size_t n, uint32_t code)
{
    for (size_t i = 0; i < n; i++) {
        if (code >= ranges[i].first && code <= ranges[i].last)
            return true;
    }
    return false;
}

bool mmf_unicode_is_space(uint32_t code)
{
    static const mmf_code_range spaces[] = {
        {0x9, 0xd},       {0x20, 0x20},     {0x85, 0x85},     {0xa0, 0xa0},     {0x1680, 0x1680},
        {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000},
    };
    return is_among(spaces, sizeof spaces / sizeof *spaces, code);
}

bool mmf_unicode_is_ideograph(uint32_t code)
{
    /* The reference leaves a gap, U+2B820 to U+2B91F, that Unicode does not have. */
    static const mmf_code_range ideographs[] = {
        {0x3400, 0x4dbf},   {0x4e00, 0x9fff},   {0xf900, 0xfaff},   {0x20000, 0x2a6df},
        {0x2a700, 0x2b81f}, {0x2b920, 0x2ceaf}, {0x2f800, 0x2fa1f},
    };
    return code >= ideographs[0].first &&
           is_among(ideographs, sizeof ideographs / sizeof *ideographs, code);
}

#ifdef MMF_WITH_UTF8PROC

bool mmf_unicode_is_whole(void)
{
    return true;
}

int mmf_unicode_decompose(uint32_t code, uint32_t out[MMF_UNICODE_MAX_PARTS])
{
    utf8proc_int32_t parts[MMF_UNICODE_MAX_PARTS];
    int bound = 0;
    /* utf8proc may know characters that are younger than the reference. */
    const bool whole = code > 0xffff && !mmf_unicode_is_composed(code);
    const utf8proc_ssize_t n =
        whole ? 0
              : utf8proc_decompose_char((utf8proc_int32_t)code, parts, MMF_UNICODE_MAX_PARTS,
                                        UTF8PROC_DECOMPOSE, &bound);
    if (n < 1 || n > MMF_UNICODE_MAX_PARTS) {
        out[0] = code;
        return 1;
    }
    for (utf8proc_ssize_t i = 0; i < n; i++)
        out[i] = (uint32_t)parts[i];
    return (int)n;
}

int mmf_unicode_combining(uint32_t code)
{
    if (!mmf_unicode_is_nonspacing(code) && !mmf_unicode_is_sorted(code))
        return 0;
    return utf8proc_get_property((utf8proc_int32_t)code)->combining_class;
}

int mmf_unicode_lower(uint32_t code, uint32_t out[2])
{
    /* Letters that are younger than some versions of utf8proc:. */
    static const struct {
        uint32_t first, last, lower;
    } young[] = {
        {0x1c89, 0x1c89, 0x1c8a},    {0xa7cb, 0xa7cb, 0x264},  {0xa7cc, 0xa7cc, 0xa7cd},
        {0xa7ce, 0xa7ce, 0xa7cf},    {0xa7d2, 0xa7d2, 0xa7d3}, {0xa7d4, 0xa7d4, 0xa7d5},
        {0xa7da, 0xa7da, 0xa7db},    {0xa7dc, 0xa7dc, 0x19b},  {0x10d50, 0x10d65, 0x10d70},
        {0x16ea0, 0x16eb8, 0x16ebb},
    };
    if (code == 0x130) {
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
    for (size_t i = 0; out[0] == code && i < sizeof young / sizeof *young; i++) {
        if (code >= young[i].first && code <= young[i].last)
            out[0] = young[i].lower + (code - young[i].first);
    }
    return 1;
}

int mmf_unicode_columns(uint32_t code)
{
    return utf8proc_charwidth((utf8proc_int32_t)code);
}

#else

bool mmf_unicode_is_whole(void)
{
    return false;
}

int mmf_unicode_decompose(uint32_t code, uint32_t out[MMF_UNICODE_MAX_PARTS])
{
    out[0] = code;
    return 1;
}

int mmf_unicode_combining(uint32_t code)
{
    (void)code;
    return 0;
}

int mmf_unicode_lower(uint32_t code, uint32_t out[2])
{
    out[0] = code >= 'A' && code <= 'Z' ? code + ('a' - 'A') : code;
    return 1;
}

int mmf_unicode_columns(uint32_t code)
{
    (void)code;
    return 1;
}

#endif
