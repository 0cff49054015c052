#!/usr/bin/env python3
"""Measures our models beside PyTorch's and writes the tables of docs/performance.md.

    bench/compare.py measure --peer-python PYTHON [--rounds 9] [--only MODEL,...] [--variants eager,...]
    bench/compare.py measure --peer-python PYTHON --into models_intel.csv
    bench/compare.py report

`measure` keeps bench_models and bench/peers/peers.py running side by side and asks them in turn:
in every round each model is timed by ours, eager, compiled and so on, within a second of each
other, so that other work on the machine meets all of them. It writes bench/results/*.csv.
The models of a second processor have a file and tables of their own (`--into`).
`report` puts the tables of those files between the markers of docs/performance.md.
A ratio is formed within a round; the table shows the median of the ratios and their quartiles.
"""

import argparse
import csv
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "performance.md"

TRAIN = ["joint-concat", "lmf", "weighted", "late-mean", "tfn", "lmf-sequence", "ef-lstm", "gatv2",
         "gmu", "misa", "mult", "mfb", "mcan"]
# Works whose latency is measured with linear layers in eight bits as well, against the same peer.
INT8 = ["gmu", "mfb", "mcan"]
ROWS = [row for name in TRAIN for row in ([name, f"{name} int8"] if name in INT8 else [name])]
# Results of models: of the processor of all other tables, and of a second one.
MODELS, MODELS_INTEL = "models.csv", "models_intel.csv"
HEAD = ["work", "kind", "round", "variant", "us", "cpu_us", "load"]
VARIANTS = ["eager", "compile", "fused", "compile-all"]
# Least ratio to (eager, compile) that is asked for, None: none; work: (train, latency).
BUDGETS = {
    "joint-concat": ((5, 2), (10, 5)),
    "lmf": ((5, 2), (10, 5)),
    "weighted": ((5, 2), (10, 5)),
    "late-mean": ((5, 2), (10, 5)),
    "tfn": ((1.3, 1), (10, 5)),
    "lmf-sequence": ((1.3, 1.15), (2.5, 2)),
    "ef-lstm": ((1.1, 1), (2.5, 2)),
    "gatv2": ((2, None), (5, None)),
    "gmu": ((2, None), (5, None)),
    "misa": ((2, None), (5, None)),
    "mult": ((1.3, None), (2.5, None)),
    "mfb": ((2, None), (5, None)),
    "mcan": ((1.3, None), (2.5, None)),
}
SECONDS = 0.15  # of work in one measurement
COUNTED_STEPS = 20
LONG = 0.5e6  # microseconds: such a call is a measurement by itself
THREADS = "2"
# How threads wait for work, on both sides: asleep, where other programs want the cores; or some 50 us
# awake, which is how long the products of one sample lie apart. PyTorch gains most by the latter.
WAITS = {
    "train": {"OMP_WAIT_POLICY": "passive"},
    "train awake": {"GOMP_SPINCOUNT": "4000"},
    "latency": {"GOMP_SPINCOUNT": "4000"},
    "latency asleep": {"OMP_WAIT_POLICY": "passive"},
}


class Worker:
    """A process that answers one line a request."""

    def __init__(self, command, environment=None):
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **(environment or {})},
        )

    def ask(self, verb, name="-", count=0):
        self.process.stdin.write(f"{verb} {name} {count}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer or answer.startswith("error"):
            raise SystemExit(f"{self.process.args[0]}: {verb} {name}: {answer or 'it died'}")
        return answer

    def time(self, verb, name, count):
        """Microseconds a call, and of processor time."""
        wall, cpu = self.ask(verb, name, count).split()
        return float(wall), float(cpu)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def our_command():
    return [ROOT / "build" / "release" / "bench_models", THREADS]


def peer_command(options):
    return [options.peer_python, ROOT / "bench" / "peers" / "peers.py", THREADS]


def write_csv(name, header, rows):
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / name, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def read_csv(name):
    path = RESULTS / name
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---- Measuring -----------------------------------------------------------------------------


def warm_up(worker, verb, name):
    """Compiles, fills caches; returns how many calls take about SECONDS."""
    first = worker.time(verb, name, 3)[0]
    each = worker.time(verb, name, 3 if first < LONG else 1)[0]
    if each < SECONDS * 1e5:
        each = worker.time(verb, name, int(SECONDS * 0.3e6 / each) + 1)[0]
    return max(2 if each < LONG else 1, int(SECONDS * 1e6 / each))


def check_parameters(ours, peer, name):
    """Both sides are the same model: they train equally many elements."""
    counts = ours.ask("parameters", name), peer.ask("parameters", f"{name}@eager")
    if counts[0] != counts[1]:
        raise SystemExit(f"{name}: {counts[0]} parameters of ours, {counts[1]} of the peer's")


def measure_models(options):
    rows = []
    for kind in options.kinds:
        sides = [Worker(command, WAITS[kind]) for command in (our_command(), peer_command(options))]
        for name in options.only or TRAIN:
            check_parameters(*sides, name)
            rows += measure_work(sides, name, name, kind, kind.split()[0], options)
            if not kind.startswith("train") and name in INT8:
                rows += measure_work(sides, f"{name} int8", name, kind, "latency-int8", options)
                likeness = sides[0].ask("likeness", name, 1)
                print(f"{name}: cosine of outputs in eight bits {likeness}", flush=True)
        for side in sides:
            side.close()
    measured = {tuple(row[:2]) for row in rows}
    rows += [list(r.values()) for r in read_csv(options.into)
             if r["work"] in ROWS and (r["work"], r["kind"]) not in measured]
    write_csv(options.into, HEAD, sorted(rows, key=lambda r: (ROWS.index(r[0]), list(WAITS).index(r[1]))))


def measure_work(sides, work, name, kind, our_verb, options):
    """Rows of one line of a table; `our_verb` is what the peer calls by the first word of `kind`."""
    ours, peer = sides
    peer_verb = kind.split()[0]
    variants = [v for v in VARIANTS[: None if kind.startswith("train") else 2] if v in options.variants]
    calls = {"ours": warm_up(ours, our_verb, name)}
    for variant in variants:
        calls[variant] = warm_up(peer, peer_verb, f"{name}@{variant}")
    rows = []
    for i in range(options.rounds):
        load = os.getloadavg()[0]
        for variant in ["ours"] + variants:
            if variant == "ours":
                us, cpu = ours.time(our_verb, name, calls[variant])
            else:
                us, cpu = peer.time(peer_verb, f"{name}@{variant}", calls[variant])
            rows.append([work, kind, i, variant, f"{us:.3f}", f"{cpu:.3f}", f"{load:.2f}"])
    show(rows, work, kind, variants)
    return rows


def show(rows, name, verb, variants):
    table = [dict(zip(HEAD, r)) for r in rows]
    line = f"{name:13s} {verb:8s} ours {median_time(table, name, verb, 'ours'):9.1f} us"
    for variant in variants:
        line += f"  {variant} {ratio_text(ratios(table, name, verb, variant))}"
        line += f" cpu {statistics.median(ratios(table, name, verb, variant, 'cpu_us')):.2f}"
    print(line, flush=True)


def measure_memory(options):
    """Peak resident memory of a process that trains and does nothing else."""
    rows = []
    for name in ("joint-concat", "lmf"):
        for who, command, key in (
            ("ours", our_command(), name),
            ("eager", peer_command(options), f"{name}@eager"),
        ):
            worker = Worker(command, WAITS["train"])
            worker.time("train", key, 300)
            rows.append([name, who, worker.ask("peak")])
            worker.close()
            print(*rows[-1], flush=True)
    write_csv("memory.csv", ["work", "who", "bytes"], rows)


def measure_counts():
    """Allocations of our own in a steady step, operations recorded in one, trained elements."""
    ours, rows = Worker(our_command()), []
    for name in TRAIN:
        ours.time("train", name, 3)
        rows.append([name, ours.ask("allocations", name, COUNTED_STEPS), ours.ask("nodes", name, 1),
                     ours.ask("parameters", name)])
        print(*rows[-1], flush=True)
    ours.close()
    write_csv("counts.csv", ["work", "allocations", "operations", "parameters"], rows)


def measure_engine():
    """Tables that bench/micro.c prints."""
    for name in ("engine", "linear", "ops"):
        done = subprocess.run([ROOT / "build" / "release" / "micro", name], check=True,
                              capture_output=True, text=True)
        (RESULTS / f"{name}.csv").write_text(done.stdout, encoding="utf-8")
        if name != "ops":
            print(done.stdout, flush=True)


COLD_DATA = """
import sys, numpy
rng = numpy.random.default_rng(1)
n = 160
arrays = {"text": 768, "audio": 74, "vision": 35}
arrays = {k: rng.standard_normal((n, d), dtype=numpy.float32) for k, d in arrays.items()}
arrays["label"] = rng.standard_normal(n, dtype=numpy.float32)
numpy.savez(sys.argv[1], **arrays)
"""


def wall(command, text):
    begin = time.perf_counter()
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    took = time.perf_counter() - begin
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr}")
    return took


def measure_cold(options):
    """One sample from a cold start: the command against python that imports torch."""
    command = ROOT / "build" / "release" / "mmfuse"
    with tempfile.TemporaryDirectory() as folder:
        data, model = f"{folder}/data.npz", f"{folder}/joint.mmf"
        subprocess.run([options.peer_python, "-c", COLD_DATA, data], check=True)
        subprocess.run(
            [command, "train", data, "--model", "joint-concat", "--epochs", "1",
             "--task", "regression", "--set", "hidden=64", "-o", model],
            check=True, capture_output=True,
        )
        sample = json.dumps({"text": [0.1] * 768, "audio": [0.1] * 74, "vision": [0.1] * 35})
        peer = f"import sys; sys.path.insert(0, {str(ROOT / 'bench' / 'peers')!r}); import peers; "
        peer += "peers.predict_once('joint-concat')"
        rows = []
        for i in range(options.rounds):
            rows.append([i, "ours", f"{wall([command, 'predict', model, '-'], sample):.6f}"])
            rows.append([i, "eager", f"{wall([options.peer_python, '-c', peer], ''):.6f}"])
            print(*rows[-2], *rows[-1], flush=True)
    write_csv("cold.csv", ["round", "who", "seconds"], rows)


def first_line(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0] if done.stdout else "unknown"


def measure_system(options):
    cpu = re.search(r"Model name:\s*(.*)", subprocess.run(["lscpu"], capture_output=True, text=True,
                                                         check=False).stdout)
    ours, peer = Worker(our_command()), Worker(peer_command(options))
    rows = [
        ["processor", f"{cpu.group(1) if cpu else 'unknown'}, {os.cpu_count()} cores"],
        ["kernel", os.uname().release],
        ["ours", ours.ask("system")],
        ["compiler", first_line(["gcc", "--version"])],
        ["peer", peer.ask("system")],
        ["threads wait", "; ".join(f"{kind}: " + " ".join(f"{k}={v}" for k, v in wait.items())
                                   for kind, wait in WAITS.items())],
        ["load at the start", f"{os.getloadavg()[0]:.2f}"],
    ]
    ours.close()
    peer.close()
    for name in ("mmfuse",):
        path = ROOT / "build" / "release" / name
        if path.exists():
            rows.append([f"bytes of {name}", str(path.stat().st_size)])
            linked = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
            for match in re.finditer(r"=> (\S+)", linked.stdout):
                library = pathlib.Path(match.group(1)).resolve()
                rows.append([f"bytes of {library.name}", str(library.stat().st_size)])
    write_csv("system.csv", ["what", "value"], rows)


# ---- Reporting -----------------------------------------------------------------------------


def times(table, name, verb, variant, column="us"):
    return {
        int(r["round"]): float(r[column])
        for r in table
        if (r["work"], r["kind"], r["variant"]) == (name, verb, variant)
    }


def median_time(table, name, verb, variant):
    found = times(table, name, verb, variant)
    return statistics.median(found.values()) if found else float("nan")


def ratios(table, name, verb, variant, column="us"):
    ours = times(table, name, verb, "ours", column)
    peer = times(table, name, verb, variant, column)
    return sorted(peer[i] / ours[i] for i in ours if i in peer)


def quartiles(values):
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, mid, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, mid, high


def ratio_text(values):
    if not values:
        return "-"
    low, mid, high = quartiles(values)
    digits = 1 if mid >= 10 else 2
    return f"{mid:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def duration(us):
    return f"{us / 1000:.2f} ms" if us >= 1000 else f"{us:.1f} us"


def models_table(kind, file=MODELS):
    table = read_csv(file)
    variants = [v for v in VARIANTS if any((r["kind"], r["variant"]) == (kind, v) for r in table)]
    names = {"eager": "eager", "compile": "compile", "fused": "eager, fused Adam",
             "compile-all": "compile, compiled Adam"}
    head = ["work", "ours"] + [f"against {names[v]}" for v in variants]
    head += ["the same in processor time", "asked for", "met"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for name in ROWS:
        if not times(table, name, kind, "ours"):  # not measured yet
            continue
        asked = BUDGETS[name.split()[0]][0 if kind.startswith("train") else 1]
        cells = [name, duration(median_time(table, name, kind, "ours"))]
        met = True
        for variant in variants:
            values = ratios(table, name, kind, variant)
            cells.append(ratio_text(values))
            if variant in ("eager", "compile") and values:
                met = met and quartiles(values)[1] >= (asked[variant == "compile"] or 0)
        spent = [ratios(table, name, kind, v, "cpu_us") for v in variants[:2]]
        cells.append(" / ".join(f"{statistics.median(r):.2f}" if r else "-" for r in spent))
        wanted = " / ".join("-" if least is None else f"{least:g}" for least in asked)
        cells += [wanted, "yes" if met else "**no**"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def memory_table():
    lines = ["| work | ours | eager | share | asked for |", "| --- | --- | --- | --- | --- |"]
    rows = {(r["work"], r["who"]): int(r["bytes"]) for r in read_csv("memory.csv")}
    for name in ("joint-concat", "lmf"):
        if (name, "ours") in rows:
            ours, eager = rows[name, "ours"], rows[name, "eager"]
            lines.append(f"| {name} | {ours / 1e6:.1f} MB | {eager / 1e6:.1f} MB "
                         f"| {ours / eager:.3f} | at most 0.25 |")
    return lines


def cold_table():
    rows = read_csv("cold.csv")
    ours = {r["round"]: float(r["seconds"]) for r in rows if r["who"] == "ours"}
    peer = {r["round"]: float(r["seconds"]) for r in rows if r["who"] == "eager"}
    if not ours:
        return []
    values = sorted(peer[i] / ours[i] for i in ours)
    return ["| `mmfuse predict` | python with torch | ratio | asked for |",
            "| --- | --- | --- | --- |",
            f"| {statistics.median(ours.values()) * 1e3:.1f} ms "
            f"| {statistics.median(peer.values()) * 1e3:.0f} ms | {ratio_text(values)} | 50 |"]


def plain_table(name):
    rows = read_csv(name)
    if not rows:
        return []
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(r[h] for h in head) + " |" for r in rows]


def report():
    tables = {
        "train": models_table("train"),
        "train awake": models_table("train awake"),
        "latency": models_table("latency"),
        "latency asleep": models_table("latency asleep"),
        **{f"{kind} intel": models_table(kind, MODELS_INTEL) for kind in WAITS},
        "memory": memory_table(),
        "cold": cold_table(),
        "counts": plain_table("counts.csv"),
        "engine": plain_table("engine.csv"),
        "linear": plain_table("linear.csv"),
        "system": plain_table("system.csv"),
    }
    put_tables(tables)


def put_tables(tables):
    """Lines of tables into the page, between the markers of their names."""
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in tables.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.S)
        block = "\n".join(lines) + "\n" if lines else ""
        text = pattern.sub(lambda m, b=block: m.group(1) + b + m.group(2), text)
    PAGE.write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["measure", "report"])
    parser.add_argument("--peer-python", default=sys.executable, help="python that has torch")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", type=lambda s: s.split(","), help="works; the rest of their table stays")
    parser.add_argument("--kinds", type=lambda s: s.split(","), default=list(WAITS),
                        help="what to measure, by default all: " + ",".join(WAITS))
    parser.add_argument("--variants", type=lambda s: s.split(","), default=VARIANTS,
                        help="of the peer, by default all: " + ",".join(VARIANTS))
    parser.add_argument("--into", choices=[MODELS, MODELS_INTEL], default=MODELS,
                        help="the second file holds models alone")
    options = parser.parse_args()
    if options.what == "report":
        report()
        return
    if not options.only and options.into == MODELS:
        measure_system(options)
        measure_counts()
        measure_memory(options)
        measure_engine()
        if (ROOT / "build" / "release" / "mmfuse").exists():
            measure_cold(options)
    measure_models(options)


if __name__ == "__main__":
    main()
