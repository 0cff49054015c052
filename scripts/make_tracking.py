#!/usr/bin/env python3
"""Writes a tracking task as an npz of the data contract: where is a moving point at the end?

A point moves in the plane with a slowly changing velocity. `radar` (40 steps) sees its position
often and badly; `camera` (8 steps, every fifth tick) sees it well, but at times does not: then its
position is anything and its third feature, the contrast, is low. The label is the point's first
coordinate at the last tick.

    scripts/make_tracking.py tracking.npz --rows 900 --seed 1
"""
import argparse

import numpy as np

TICKS = 40
EVERY = 5
RADAR_NOISE = 0.8
CAMERA_NOISE = 0.15
ACCELERATION = 0.04
FAILURE = 0.35


def walk(rng, rows):
    """Positions (rows, TICKS, 2) of points whose velocity is a random walk."""
    start = rng.normal(0, 1, (rows, 1, 2))
    velocity = rng.normal(0, 0.05, (rows, 1, 2))
    velocity = velocity + np.cumsum(rng.normal(0, ACCELERATION, (rows, TICKS, 2)), axis=1)
    return start + np.cumsum(velocity, axis=1)


def camera(rng, position):
    """Every fifth position and a contrast; where it fails, a place that means nothing."""
    seen = position[:, EVERY - 1 :: EVERY]
    fails = rng.random(seen.shape[:2]) < FAILURE
    reading = seen + rng.normal(0, CAMERA_NOISE, seen.shape)
    reading[fails] = rng.normal(0, 3, (int(fails.sum()), 2))
    contrast = np.where(fails, 0.2, 0.8) + rng.normal(0, 0.08, fails.shape)
    return np.concatenate([reading, contrast[..., None]], axis=2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--rows", type=int, default=900)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    position = walk(rng, options.rows)
    arrays = {
        "radar": position + rng.normal(0, RADAR_NOISE, position.shape),
        "camera": camera(rng, position),
        "label": position[:, -1, 0],
    }
    np.savez(options.out, **{name: array.astype(np.float32) for name, array in arrays.items()})


if __name__ == "__main__":
    main()
