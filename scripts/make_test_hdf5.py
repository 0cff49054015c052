#!/usr/bin/env python3
"""Makes the small HDF5 files of tests/io/data. Needs numpy and h5py."""

import pathlib

import h5py
import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "io" / "data"


def contract(path):
    with h5py.File(path, "w") as file:
        file["imu"] = np.arange(24, dtype=">f4").reshape(4, 3, 2)
        file["imu.length"] = np.array([3, 2, 1, 3], "u2")
        file["imu.present"] = np.array([True, True, False, True])
        file["half"] = np.array([[1.5], [-2], [np.inf], [0]], "f2")
        packed = np.arange(28, dtype="f8").reshape(4, 7)
        file.create_dataset("packed", data=packed, chunks=(2, 7), compression="gzip", shuffle=True)
        file["label"] = np.array([[0], [1], [2], [1]])
        file["label.names"] = ["one", "zw\u00f6", "three"]
        file["id"] = np.array([b"a", b"bb", b"ccc", b"dddd"])
        file["empty"] = np.zeros((0, 3), "f4")
        file["complex"] = np.zeros(4, "c8")
        file["elsewhere"] = h5py.ExternalLink("mmsa.h5", "/train/text")
        file["nested/x"] = 1.0


def mmsa(path):
    with h5py.File(path, "w") as file:
        for split, n, start in (("train", 4, 0), ("valid", 2, 4), ("test", 3, 6)):
            rows = np.arange(start, start + n)
            group = file.create_group(split)
            group["text"] = np.repeat(rows, 6).reshape(n, 3, 2).astype("f4")
            group["audio"] = np.repeat(rows, 5).reshape(n, 5, 1).astype("f8")
            group["vision"] = np.repeat(rows, 4).reshape(n, 2, 2).astype("f4")
            group["audio_lengths"] = rows % 5 + 1
            group["vision_lengths"] = rows % 2 + 1
            group["text_bert"] = np.ones((n, 3, 3), "f4")
            group["regression_labels"] = (rows / 2 - 2).astype("f4")
            group["classification_labels"] = rows % 3
            group["annotations"] = np.array(["Neutral"] * n, "S")
            group["raw_text"] = ["word " * (i % 3) + str(i) for i in rows]
            group["id"] = [f"video$_${i}" for i in rows]


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    contract(FOLDER / "contract.h5")
    mmsa(FOLDER / "mmsa.h5")
