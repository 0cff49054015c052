#!/usr/bin/env python3
"""Writes docs/fusion/: an index and a page for every model of the catalogue.

    scripts/fusion_pages.py           write the pages
    scripts/fusion_pages.py --check   say which pages are not what would be written, exit 1

Formula, paper, inputs and options come from the definitions (`mmfuse list` and `mmfuse info`), cost from
`mmfuse bench`, results from docs/results.json. The text "when to use it" is written by hand, in
docs/fusion/prose/MODEL.md; a model without it is an error.
"""
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "fusion"
RESULTS = ROOT / "docs" / "results.json"
COMMAND = os.environ.get("MMFUSE", str(ROOT / "build" / "release" / "mmfuse"))
ADVANCED = ("disentangled", "dynamic", "contrastive")
SECTIONS = [
    ("none", "One modality alone"),
    ("early", "Early fusion: raw inputs are joined"),
    ("intermediate", "Intermediate fusion: encodings are joined"),
    ("late", "Late fusion: predictions are joined"),
    ("advanced", "Advanced: features taken apart, computed by the sample, or aligned by contrast"),
]
SHAPES = [
    ("pooled", ["text 768", "audio 74", "vision 35"]),
    ("sequence", ["text 50 x 768", "audio 50 x 5", "vision 50 x 20"]),
    ("tokens", ["text of 50 tokens", "vision 50 x 20", "audio 50 x 5"]),
    ("regions", ["text of 50 tokens", "vision 36 x 2048"]),
    ("picture", ["text of 50 tokens", "vision 3 x 64 x 64"]),
    ("scene", ["question 300", "20 words of 300 with boxes and numbers", "vision 36 x 2048 with boxes"]),
    ("views", ["coordinates 84 x 3", "3 pairs of views 84 x 84"]),
]
HEADER = "Made by `scripts/fusion_pages.py`; the section *When to use it* stands in `prose/`."


def ask(*arguments):
    asleep = {**os.environ, "OMP_WAIT_POLICY": "passive"}  # counts are asked for, not times
    done = subprocess.run([COMMAND, *arguments, "--json"], check=True, capture_output=True, text=True, env=asleep)
    return json.loads(done.stdout)


def cell(value):
    return str(value).replace("|", "\\|")


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell(c) for c in line) + " |" for line in lines]


# ---- Sections of a page ------------------------------------------------------------------------


def facts(model):
    yield f"- **Timing, structure**: {model['timing']}, {model['structure']}"
    yield f"- **Inputs**: {', '.join(model['takes'])}; modalities: {model['modalities']}"
    yield f"- **Tasks**: {', '.join(model['tasks'])}"
    if model["missing"]:
        yield f"- **Absent modality**: {model['missing']}"
    if model["paper"]:
        yield f"- **Paper**: {model['paper']}"


def values(option):
    if option["choices"]:
        return option["choices"] if isinstance(option["choices"], str) else ", ".join(option["choices"])
    if option["low"] is None:
        return option["type"]
    return f"{option['type']}, {option['low']:g} to {option['high']:g}"


def options(model):
    rows = [(f"`{o['name']}`", o["default"] or "by the data", values(o), o["help"]) for o in model["options"]]
    if not rows:
        return ["None of its own."]
    return table(["option (`--set NAME=VALUE`)", "default", "values", "meaning"], rows)


def costs(model, measured):
    taken = {"1": 1, "2": 2}.get(model["modalities"])
    rows = [(shape, ", ".join(of[:taken]), f"{m['parameters']:,}", f"{m['flops'] / 1e6:,.3f}")
            for shape, of in SHAPES if (m := measured.get((model["name"], shape)))]
    if not rows:
        return ["Not measured: it takes none of the sets of shapes."]
    return table(["shapes", "modalities", "parameters", "MFLOP a sample"], rows)


def results(name, kept):
    rows = []
    for experiment, found in sorted(kept.items()):
        for place, row in enumerate(found["rows"], 1):
            if row["model"] == name:
                test = row["test"]
                rows.append((experiment, found["metric"], f"{row['valid']:.3f}",
                             f"{test['mean']:.3f} ± {test['std']:.3f}", f"{place} of {len(found['rows'])}"))
    if not rows:
        return ["None of the [experiments](../results.md) has it."]
    return table(["[experiment](../results.md)", "metric", "validation", "test", "place by validation"], rows)


def page(model, measured, kept, prose):
    lines = [f"# {model['title']}: `{model['name']}`", "", HEADER, "", *facts(model), "",
             "## Formula", "", "```", model["equations"], "```", "", "## When to use it", "", prose, "",
             "## Options", "", *options(model), "", "## Cost", "",
             "Counted with default options for regression (four classes where a model has no regression): "
             "matrix products, convolutions and recurrences of one prediction.", "", *costs(model, measured), "", "## Measured", "",
             *results(model["name"], kept)]
    return "\n".join(lines) + "\n"


def index(models):
    lines = ["# Fusion strategies", "", HEADER, "",
             "Every model that `--model` takes, grouped as `mmfuse list` does."]
    for section, title in SECTIONS:
        rows = [(f"[`{m['name']}`]({m['name']}.md)", m["structure"], m["title"], m["modalities"])
                for m in models
                if section == ("advanced" if m["structure"] in ADVANCED else m["timing"])]
        if rows:
            lines += ["", f"## {title}", "", *table(["model", "structure", "what it is", "modalities"], rows)]
    return "\n".join(lines) + "\n"


# ---- All pages ---------------------------------------------------------------------------------


def made():
    """Text by path of everything this script writes."""
    models = ask("list")["models"]
    measured = {(m["model"], m["schema"]): m for m in ask("bench", "--seconds", "0.001", "--batch", "2")["models"]
                if "error" not in m}
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    pages, without = {PAGES / "README.md": index(models)}, []
    for model in models:
        prose = PAGES / "prose" / f"{model['name']}.md"
        if not prose.exists():
            without.append(model["name"])
            continue
        described = {**model, **ask("info", model["name"])}
        pages[PAGES / f"{model['name']}.md"] = page(described, measured, kept, prose.read_text().strip())
    if without:
        sys.exit(f"no text in {PAGES.relative_to(ROOT)}/prose for: {', '.join(without)}")
    return pages


def main():
    pages = made()
    stale = [p for p, text in pages.items() if not p.exists() or p.read_text() != text]
    stale += [p for p in PAGES.glob("*.md") if p not in pages]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)}: not what scripts/fusion_pages.py writes", file=sys.stderr)
        sys.exit(1 if stale else 0)
    for path in stale:
        if path in pages:
            path.write_text(pages[path])
        else:
            path.unlink()
    print(f"{len(pages)} pages, {len(stale)} changed")


if __name__ == "__main__":
    main()
