#!/usr/bin/env python3
"""Writes a task for `mv-gcn`: are two subjects of one group, by three views of their connectomes.

usage: make_connectomes.py OUT.npz [SEED]

Two groups differ in how strongly neighbouring regions of one half of the brain are connected. Each
view is the same connectome through another lens: scaled and noisy, and of every subject one view is
spoilt. Subjects of the test occur in no pair of the training.
"""
import sys

import numpy as np

REGIONS, VIEWS = 20, 3
SUBJECTS = (120, 40, 60)  # train, valid, test
PAIRS = (3000, 400, 800)


def main():
    rng = np.random.default_rng(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    places = rng.uniform(-1, 1, (REGIONS, 3))
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    near = np.exp(-((apart / apart.mean()) ** 2) * 2)
    half = (places[:, 0] > 0).astype(float)
    changed = near * half[:, None] * half[None]
    columns = {f"view{v + 1}_{side}": [] for v in range(VIEWS) for side in "ab"}
    label, split, where = [], [], []
    for part, (count, pairs) in enumerate(zip(SUBJECTS, PAIRS)):
        group = np.arange(count) % 2
        base = near[None] + group[:, None, None] * 0.8 * changed[None]
        base = base * rng.lognormal(0, 0.15, (count, 1, 1))
        views = []
        for v in range(VIEWS):
            noise = rng.normal(scale=0.25, size=(count, REGIONS, REGIONS))
            spoilt = (rng.integers(0, VIEWS, count) == v)[:, None, None]
            noisy = (v + 1) * (base + (noise + noise.transpose(0, 2, 1)) / 2)
            views.append(np.where(spoilt, rng.normal(size=base.shape) * (v + 1), noisy))
        pair = np.array([rng.choice(count, 2, replace=False) for _ in range(pairs)])
        for v in range(VIEWS):
            for side, subject in zip("ab", pair.T):
                columns[f"view{v + 1}_{side}"].append(views[v][subject])
        label.append((group[pair[:, 0]] == group[pair[:, 1]]).astype(np.int64))
        split.append(np.full(pairs, part, np.int64))
        where.append(places[None] + rng.normal(scale=0.01, size=(pairs, REGIONS, 3)))
    arrays = {name: np.concatenate(parts).astype(np.float32) for name, parts in columns.items()}
    np.savez_compressed(
        sys.argv[1],
        coordinates=np.concatenate(where).astype(np.float32),
        label=np.concatenate(label),
        split=np.concatenate(split),
        **arrays,
    )


if __name__ == "__main__":
    main()
