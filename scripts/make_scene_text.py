#!/usr/bin/env python3
"""Writes a task for `mm-gnn`: questions about words, numbers and coloured regions of a picture.

usage: make_scene_text.py OUT.npz [SEED]

A question asks for the largest number, for the smallest, or for the colour of the largest region.
Features of tokens do not say their values, which stand in `number` alone: the first two kinds need
the graph of numbers, the third needs the regions and their boxes. Classes are four colours, then six
slots of tokens.
"""
import sys

import numpy as np

TOKENS, REGIONS, COLOURS, WORD = 6, 5, 4, 8
ROWS = (3000, 500, 1000)  # train, valid, test


def boxes(rng, rows, count):
    size = rng.uniform(0.05, 0.4, (rows, count, 2))
    corner = rng.uniform(0, 1, (rows, count, 2)) * (1 - size)
    return np.concatenate([corner, corner + size], -1).astype(np.float32), size.prod(-1)


def main():
    rng = np.random.default_rng(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    n = sum(ROWS)
    kind = rng.integers(0, 3, n)
    length = rng.integers(3, TOKENS + 1, n)
    there = np.arange(TOKENS) < length[:, None]
    is_number = rng.random((n, TOKENS)) < 0.7
    is_number[:, :2] = True  # two to compare
    value = rng.uniform(0, 100, (n, TOKENS))
    compared = is_number & there
    largest = np.where(compared, value, -1).argmax(1)
    smallest = np.where(compared, value, 101).argmin(1)
    colour = rng.integers(0, COLOURS, (n, REGIONS))
    vision_box, area = boxes(rng, n, REGIONS)
    seen = np.take_along_axis(colour, area.argmax(1)[:, None], 1)[:, 0]
    number = np.stack([np.where(is_number, value, 0), np.where(is_number, 1, -1)], -1)
    number *= there[..., None]
    np.savez_compressed(
        sys.argv[1],
        question=np.eye(3, dtype=np.float32)[kind],
        token=rng.normal(size=(n, TOKENS, WORD)).astype(np.float32) * there[..., None],
        token_box=boxes(rng, n, TOKENS)[0] * there[..., None],
        number=number.astype(np.float32),
        vision=np.eye(COLOURS)[colour].astype(np.float32)
        + rng.normal(scale=0.1, size=(n, REGIONS, COLOURS)).astype(np.float32),
        vision_box=vision_box,
        label=np.choose(kind, [COLOURS + largest, COLOURS + smallest, seen]).astype(np.int64),
        kind=kind,
        split=np.repeat(np.arange(3), ROWS).astype(np.int64),
        **{f"{name}.length": length for name in ("token", "token_box", "number")},
    )


if __name__ == "__main__":
    main()
