#!/usr/bin/env python3
"""Writes src/data/unicode_classes.c: the code points that BERT's tokenizer treats as control characters,
nonspacing marks and punctuation, the other marks that it sorts, and what it decomposes beyond U+FFFF.

The reference (the PyPI package `tokenizers`) classifies by the tables of Unicode 8 and decomposes by those of a
later one, whatever newer versions say, so its answers are asked for, code point by code point, instead of taking those of the Unicode library:

    scripts/make_unicode_classes.py > src/data/unicode_classes.c
"""
from tokenizers import normalizers, pre_tokenizers

HEAD = """\
/*
 * unicode_classes.c: see unicode.h. Made by scripts/make_unicode_classes.py: as the reference tokenizer
 * classifies, which is by Unicode 8.
 */
#include "data/unicode.h"

#include <stddef.h>
"""


def normalizer(**settings):
    off = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**off, **settings})


def ranges(points):
    found = []
    for point in points:
        if found and found[-1][1] == point - 1:
            found[-1][1] = point
        else:
            found.append([point, point])
    return found


def table(name, members):
    rows = ",\n".join(f"    {{{first:#x}, {last:#x}}}" for first, last in members)
    return f"\nstatic const mmf_code_range {name}[] = {{\n{rows},\n}};\n"


LOOKUP = """
static bool is_in(const mmf_code_range *table, size_t n, uint32_t code)
{
    size_t low = 0;
    for (size_t high = n; low < high;) {
        const size_t middle = low + (high - low) / 2;
        if (table[middle].last < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && table[low].first <= code;
}
"""

QUESTION = """
bool mmf_unicode_is_{name}(uint32_t code)
{{
    return is_in({name}, sizeof {name} / sizeof *{name}, code);
}}
"""


def is_sorted(strip, point):
    """True if a mark of class 216 or 224 before or behind it changes its place."""
    marks = ("\U0001d165", "\u302e")
    pairs = [pair for mark in marks for pair in (chr(point) + mark, mark + chr(point))]
    return any(strip.normalize_str(f"a{pair}b") != f"a{pair}b" for pair in pairs)


def composes(strip, point):
    return strip.normalize_str(f"a{chr(point)}b") != f"a{chr(point)}b"


def main():
    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    between = {c: f"a{chr(c)}b" for c in points}
    clean, strip = normalizer(clean_text=True), normalizer(strip_accents=True)
    split = pre_tokenizers.BertPreTokenizer()
    # NUL and the replacement character go with the control characters.
    classes = {
        "control": [c for c in points if clean.normalize_str(between[c]) == "ab"],
        "nonspacing": [c for c in points if strip.normalize_str(between[c]) == "ab"],
        "punctuation": [c for c in points if len(split.pre_tokenize_str(between[c])) == 3],
        "composed": [c for c in points if c > 0xFFFF and strip.normalize_str(between[c]) not in (between[c], "ab")],
    }
    known = set(classes["nonspacing"]) | set(classes["composed"])
    classes["sorted"] = [c for c in points if c not in known and not composes(strip, c) and is_sorted(strip, c)]
    text = HEAD + "".join(table(name, ranges(members)) for name, members in classes.items())
    print(text + LOOKUP + "".join(QUESTION.format(name=name) for name in classes), end="")


if __name__ == "__main__":
    main()
