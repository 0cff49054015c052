#!/usr/bin/env python3
"""Measures residual networks beside PyTorch and ONNX Runtime: bench/results/images.csv.

    bench/images.py --peer-python PYTHON [--rounds 7]

PYTHON has torch, onnx and onnxruntime. As in compare.py the processes stay side by side and are
asked in turn, and a ratio is formed within a round.
"""

import argparse
import os
import statistics

import compare

WORKS = (
    ("resnet50", "infer", ("eager", "channels-last", "compile", "onnx")),
    ("resnet18", "train", ("eager", "channels-last", "compile")),
)
HEAD = ["work", "kind", "round", "variant", "us", "cpu_us", "load"]


def measure(options):
    ours = compare.Worker([compare.ROOT / "build" / "release" / "bench_images", compare.THREADS])
    peer = compare.Worker(
        [options.peer_python, compare.ROOT / "bench" / "peers" / "image_models.py", compare.THREADS]
    )
    rows = []
    for name, verb, variants in WORKS:
        counts = ours.ask("parameters", name), peer.ask("parameters", f"{name}@eager")
        if counts[0] != counts[1]:
            raise SystemExit(f"{name}: {counts[0]} parameters of ours, {counts[1]} of the peer's")
        keys = {"ours": (ours, name)} | {v: (peer, f"{name}@{v}") for v in variants}
        for worker, key in keys.values():
            worker.time(verb, key, 2)
        for i in range(options.rounds):
            for variant, (worker, key) in keys.items():
                us, cpu = worker.time(verb, key, 1)
                load = os.getloadavg()[0]
                rows.append([name, verb, i, variant, f"{us:.1f}", f"{cpu:.1f}", f"{load:.2f}"])
        show(rows, name, verb, variants)
    ours.close()
    peer.close()
    compare.write_csv("images.csv", HEAD, rows)


def show(rows, name, verb, variants):
    table = [dict(zip(HEAD, map(str, row))) for row in rows]
    time = compare.median_time(table, name, verb, "ours")
    print(f"{name} {verb}: ours {time / 1000:.1f} ms", flush=True)
    for variant in variants:
        wall = compare.ratio_text(compare.ratios(table, name, verb, variant))
        cpu = statistics.median(compare.ratios(table, name, verb, variant, "cpu_us"))
        print(f"  {variant:14s} {wall} times as long, {cpu:.2f} of processor time", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
