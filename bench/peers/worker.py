"""A process that times models on request: a line "VERB NAME@VARIANT COUNT" each."""

import sys
import time

import torch


def peak_resident():
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def serve(make):
    """make(name, variant) gives an object whose methods are the verbs; it is made once.

    `parameters` answers with a number, other verbs take a count and are answered with microseconds
    a run, and of processor time.
    """
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    benches = {}
    for line in sys.stdin:
        verb, name, count = line.split()
        if verb == "peak":
            print(peak_resident(), flush=True)
            continue
        if verb == "system":
            print(f"torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
            continue
        if name not in benches:
            benches[name] = make(*name.split("@"))
        if verb == "parameters":
            print(benches[name].parameters(), flush=True)
            continue
        begin, begin_cpu = time.perf_counter(), time.process_time()
        getattr(benches[name], verb)(int(count))
        scale = 1e6 / int(count)
        wall = (time.perf_counter() - begin) * scale
        print(f"{wall:.4f} {(time.process_time() - begin_cpu) * scale:.4f}", flush=True)
