#!/usr/bin/env python3
"""Measures BERT and residual networks beside PyTorch and ONNX Runtime, and writes their table.

    bench/encoders.py measure --peer-python PYTHON [--rounds 7]
    bench/encoders.py report

PYTHON has torch, onnx and onnxruntime. As in compare.py the processes stay side by side and are
asked in turn, and a ratio is formed within a round. `measure` writes bench/results/encoders.csv,
`report` the table of docs/performance.md.
"""

import argparse
import os
import statistics

import compare

# The peer's script, and works: name, verb, variants of the peer.
SIDES = (
    ("image_models.py", (
        ("resnet50", "infer", ("eager", "channels-last", "compile", "onnx")),
        ("resnet18", "train", ("eager", "channels-last", "compile")),
    )),
    ("text_models.py", (
        ("bert-base", "infer", ("eager", "compile", "onnx", "onnx-fused")),
        ("minilm-l6", "train", ("eager", "fused")),
    )),
)
# Of ours, beside the work itself: linear layers in eight bits.
OWN = {("bert-base", "infer"): ("int8",)}
HEAD = ["work", "kind", "round", "variant", "us", "cpu_us", "load"]


def measure_side(script, works, options):
    ours = compare.Worker([compare.ROOT / "build" / "release" / "bench_encoders", compare.THREADS])
    peer = compare.Worker(
        [options.peer_python, compare.ROOT / "bench" / "peers" / script, compare.THREADS]
    )
    rows = []
    for name, verb, variants in works:
        counts = ours.ask("parameters", name), peer.ask("parameters", f"{name}@eager")
        if counts[0] != counts[1]:
            raise SystemExit(f"{name}: {counts[0]} parameters of ours, {counts[1]} of the peer's")
        calls = {"ours": (ours, verb, name)}
        calls |= {own: (ours, own, name) for own in OWN.get((name, verb), ())}
        calls |= {v: (peer, verb, f"{name}@{v}") for v in variants}
        for worker, request, key in calls.values():
            worker.time(request, key, 2)
        for i in range(options.rounds):
            for variant, (worker, request, key) in calls.items():
                us, cpu = worker.time(request, key, 1)
                load = os.getloadavg()[0]
                rows.append([name, verb, i, variant, f"{us:.1f}", f"{cpu:.1f}", f"{load:.2f}"])
        print("\n".join(lines_of([dict(zip(HEAD, map(str, r))) for r in rows], name, verb)), flush=True)
    ours.close()
    peer.close()
    return rows


def lines_of(table, name, verb):
    time = compare.duration(compare.median_time(table, name, verb, "ours"))
    variants = dict.fromkeys(r["variant"] for r in table if (r["work"], r["kind"]) == (name, verb))
    lines = []
    for variant in variants:
        if variant == "ours":
            continue
        who = f"ours in {variant}" if variant in OWN.get((name, verb), ()) else variant
        wall = compare.ratio_text(compare.ratios(table, name, verb, variant))
        cpu = statistics.median(compare.ratios(table, name, verb, variant, "cpu_us"))
        lines.append(f"| {name} {verb} | {time} | {who} | {wall} | {cpu:.2f} |")
    return lines


def report():
    table = compare.read_csv("encoders.csv")
    works = dict.fromkeys((r["work"], r["kind"]) for r in table)
    lines = ["| work | ours | against | ratio | in processor time |", "| --- | --- | --- | --- | --- |"]
    for name, verb in works:
        lines += lines_of(table, name, verb)
    compare.put_tables({"encoders": lines})


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["measure", "report"])
    parser.add_argument("--peer-python", help="python that has torch, onnx and onnxruntime")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if options.what == "measure":
        rows = [row for side in SIDES for row in measure_side(*side, options)]
        compare.write_csv("encoders.csv", HEAD, rows)
    else:
        report()


if __name__ == "__main__":
    main()
