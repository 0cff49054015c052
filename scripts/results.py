#!/usr/bin/env python3
"""Trains every model on the real data sets, some on generated tasks, and writes docs/results.md.

    scripts/results.py [NAME ...]          run these experiments (default: all), then write the page
    scripts/results.py --write [NAME ...]  write the page from what has run so far

What the page shows is kept in docs/results.json, one entry an experiment, so that experiments can be
repeated one at a time.

Needs numpy and scikit-learn for the linear baselines, and the shared data in ../shared or
$MMFUSE_SHARED. Each experiment is one `mmfuse compare` with five seeds; finished trials are kept, so an
interrupted run goes on. Models, epochs and options are chosen on validation; test is looked at once.
"""
import json
import os
import pathlib
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = pathlib.Path(os.environ.get("MMFUSE_SHARED", ROOT.parent / "shared")) / "data"
RUNS = ROOT / "runs" / "results"
STORE = ROOT / "docs" / "results.json"
COMMAND = os.environ.get("MMFUSE", str(ROOT / "build" / "release" / "mmfuse"))
SEEDS = 5
# The other scores in a table, by the first; else f1_macro.
OTHERS = {"mae": ["corr"], "map": ["image_to_text.map", "text_to_image.map"]}
DRAWS = 10000
SMOOTH = ["--smoothing", "0.1"]

# name, file, title, modalities, options of `mmfuse compare`, remarks for the page
EXPERIMENTS = [
    ("digits", "digits-views.npz", "Digits seen six ways, 1,000 training samples", None, SMOOTH, ""),
    ("digits-10", "digits-views.npz", "Digits seen six ways, 10 training samples a class", None,
     SMOOTH + ["--train-per-class", "10"], ""),
    ("tcga-brca", "tcga-brca.npz", "Breast cancer subtypes; protein is absent from every test sample",
     None, SMOOTH,
     "No training sample lacks a modality, so nothing here has learned what an absent one means."),
    ("utd-mhad", "utd-mhad.npz", "27 actions by other people: skeleton and inertial sensors",
     ["skeleton", "inertial"], SMOOTH + ["--refit"],
     "Epochs are chosen on one training subject left out, then models are refitted on all four."),
    ("utd-mhad-depth", "utd-mhad.npz", "The same with the weak depth images",
     ["skeleton", "inertial", "depth"], SMOOTH + ["--refit"], ""),
    ("mosi-dev", "mosi-dev.npz", "Sentiment of 229 utterances, grouped folds", None,
     ["--folds", "5", "--metrics", "mosi", "--non-finite", "zero"],
     "Each seed takes another fold as test. Far too small to reproduce published scores."),
    ("avmnist-hard", "avmnist-hard.npz", "Degraded image and sound of a digit", None,
     SMOOTH + ["--encoder", "audio=gru", "--epochs", "40", "--patience", "5"],
     "The audio encoder was chosen on validation: gru 0.853, cnn1d 0.800 (width 128). Forty epochs at most."),
    ("easy-vqa", "easy-vqa.npz", "Questions about an image, 13 answers", None,
     ["--batch", "128", "--lr", "0.002", "--epochs", "8", "--patience", "4", "--models",
      "only-image,only-question,joint-concat,weighted,lf-dnn,tfn,lmf,late-mean,late-product"],
     "Eight epochs at most, and the slow late-stacking is left out: this is the largest set."),
    ("easy-vqa-bilinear", "easy-vqa.npz", "The same questions: bilinear pooling and gating", None,
     ["--batch", "128", "--lr", "0.0005", "--epochs", "12", "--patience", "4", "--models",
      "block,mfb,mutan,mlb,mcb,film,gmu,mcan,joint-concat"],
     "The learning rate was chosen on validation with `block`: 0.983 at 0.0005, 0.966 at 0.001, 0.845 at 0.002."),
    ("wiki", "wiki.npz", "Wikipedia articles: image and text find each other, by class", ["image", "text"],
     ["--task", "retrieval", "--models", "two-tower,vse-pp,cca,dcca", "--tune", "12", "--refit"],
     "Twelve settings of each model were tried on validation (`--tune`), with one seed."),
    ("scene-text", "scene-text.npz", "Generated: questions about numbers, words and coloured regions", None,
     ["--models", "mm-gnn,joint-concat,attention,only-vision,only-number"], ""),
    ("connectomes", "connectomes.npz", "Generated: are two subjects of one group, by three views", None,
     ["--epochs", "12", "--models", "mv-gcn,joint-concat,only-view1_a"], ""),
    ("tracking", "tracking.npz", "Generated: a moving point, a noisy radar and a camera that fails", None,
     ["--models", "kalman,product-of-experts,joint-concat,only-radar,only-camera"], ""),
]

# For models whose inputs no real data here has: the script that makes a file, with its first seed.
GENERATED = {
    "scene-text.npz": "make_scene_text.py",
    "connectomes.npz": "make_connectomes.py",
    "tracking.npz": "make_tracking.py",
}

# Published or measured elsewhere: the README of the shared data (scikit-learn logistic regression on
# standardised features) and the papers it names.
CITED = {
    "digits": "LR single .971 (fac), concat .989, late .983",
    "digits-10": "LR single .942, concat .961, late .972",
    "tcga-brca": "LR single .971 (mrna), concat .957, late .929",
    "utd-mhad": "LR single .795 (skeleton), concat .863, late .879; published 2015: fused .791",
    "utd-mhad-depth": "LR concat with depth .779",
    "mosi-dev": "MAE of text tf-idf 1.355, concat 1.398, mean predictor 1.416",
    "avmnist-hard": "LR single .687 (audio), concat .847, late .777",
    "wiki": "MAP of an image query / a text query: CM .249 / .196, SM .225 / .223, SCM .277 / .226 (Rasiwasia "
            "et al. 2010), random .118",
    "easy-vqa-bilinear": "as above",
    "easy-vqa": "LR question .669, concat .759, MLP .806; a CNN with concat .957 in one run",
}
LINEAR = ["digits", "digits-10", "tcga-brca", "utd-mhad", "utd-mhad-depth", "avmnist-hard"]


def path_of(file):
    """Of real data in the shared folder; of a generated task, made anew."""
    if file not in GENERATED:
        return DATA / file
    script, path = GENERATED[file], RUNS / file
    subprocess.run([sys.executable, ROOT / "scripts" / script, path], check=True)
    return path


def compare(name, file, modalities, options):
    folder = RUNS / name
    folder.mkdir(parents=True, exist_ok=True)
    line = [COMMAND, "compare", str(path_of(file)), "--seeds", str(SEEDS), "--folder", str(folder), "--resume"]
    if modalities:
        line += ["--modalities", ",".join(modalities)]
    (folder / "command.txt").write_text("mmfuse compare " + file + " " + " ".join(line[3:5] + options) + "\n")
    subprocess.run(line + options, check=True, stdout=subprocess.DEVNULL)


# ---- Linear baselines --------------------------------------------------------------------------


def scaled(values, train, per_feature):
    """Centred on the training rows; one deviation a feature, or one for the whole modality."""
    mean, deviation = values[train].mean(0), values[train].std(0)
    return (values - mean) / (np.maximum(deviation, 1e-8) if per_feature else deviation.mean() + 1e-8)


def linear_baselines(name, file, modalities):
    """Per-row correctness on test of concatenated and of averaged logistic regressions.

    Both with one scale a feature and one a modality: positions of joints keep their proportions only
    with the second. The best on test is the one that fusion has to beat.
    """
    from sklearn.linear_model import LogisticRegression

    data = np.load(DATA / file)
    labels, split = data["label"], data["split"]
    train, test = np.flatnonzero(split == 0), np.flatnonzero(split == 2)
    if name == "digits-10":
        train = np.concatenate([train[labels[train] == c][:10] for c in range(10)])
    names = modalities or [k for k in data.files if data[k].ndim > 1 and data[k].dtype.kind == "f"]
    raw = [np.nan_to_num(data[k].reshape(len(labels), -1).astype(np.float64)) for k in names]

    def probabilities(x):
        return LogisticRegression(max_iter=2000).fit(x[train], labels[train]).predict_proba(x[test])

    right = {}
    for per_feature, how in ((True, "a scale a feature"), (False, "a scale a modality")):
        parts = [scaled(x, train, per_feature) for x in raw]
        for kind, p in (("concat", probabilities(np.hstack(parts))), ("late", sum(map(probabilities, parts)))):
            right[f"{kind}, {how}"] = (p.argmax(1) == labels[test]).astype(float)
    return right, test


# ---- What is kept of a comparison ---------------------------------------------------------------


def row_scores(name, model, rows):
    """Per-row correctness on test, averaged over the seeds."""
    scores = []
    for path in sorted((RUNS / name / "predictions").glob(f"{model}.[0-9]*.npz")):
        trial = np.load(path)
        order = {row: i for i, row in enumerate(trial["test.rows"])}
        right = trial["test.prediction"].argmax(1) == trial["test.target"]
        scores.append([right[order[row]] for row in rows])
    return np.mean(scores, axis=0)


def interval(difference, rng):
    draws = rng.integers(0, len(difference), (DRAWS, len(difference)))
    means = difference[draws].mean(1)
    return difference.mean(), *np.percentile(means, [2.5, 97.5])


def linear_claim(name, best, baselines, rows):
    kind, scores = max(baselines.items(), key=lambda item: item[1].mean())
    mean, low, high = interval(row_scores(name, best, rows) - scores, np.random.default_rng(0))
    return {"baseline": kind, "score": scores.mean(), "model": best, "mean": mean, "low": low, "high": high}


def summary(results, metric):
    return {k: results[metric][k] for k in ("mean", "std")} if metric in results else None


def digest(name, file, modalities):
    """What docs/results.json keeps of one comparison; None if it has not run."""
    folder = RUNS / name
    path = folder / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    if not results.get("leaderboard"):
        return None
    metric = results["main_metric"]
    others = OTHERS.get(metric, ["f1_macro"])
    kept = {
        "command": (folder / "command.txt").read_text().strip(),
        "metric": metric,
        "others": others,
        "best_single": results.get("best_single"),
        "gain": results["gain"] if results["gain"] and results["gain"].get("mean") is not None else None,
        "failed": sorted({t["model"] for t in results["trials"] if t.get("error")}),
        "rows": [{
            "model": row["model"],
            "seeds": row["seeds"],
            "valid": row["valid"][metric]["mean"],
            "test": summary(row["metrics"], metric),
            "scores": {name: summary(row["metrics"], name) for name in others},
            "parameters": row["parameters"],
            "train_seconds": row["train_seconds"],
        } for row in results["leaderboard"]],
    }
    if name in LINEAR and results.get("best_fusion"):
        kept["linear"] = linear_claim(name, results["best_fusion"], *linear_baselines(name, file, modalities))
    return rounded(kept)


def rounded(value):
    """Six significant digits: the file is read by people too, and its changes should mean something."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def keep(name, kept):
    everything = kept_results()
    everything[name] = kept
    STORE.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n")


def kept_results():
    return json.loads(STORE.read_text()) if STORE.exists() else {}


# ---- The page -----------------------------------------------------------------------------------


def short(value, digits=3):
    return "–" if value is None else f"{value:.{digits}f}"


def table(kept):
    metric, others = kept["metric"], kept["others"]
    columns = ["model", f"validation {metric}", *(f"test {name}" for name in [metric, *others]), "parameters",
               "training, s"]
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    for row in kept["rows"]:
        star = " *" if row["model"] == kept["best_single"] else ""
        scores = "".join(f"{short(row['scores'][name]['mean'])} | " for name in others)
        lines.append(
            f"| {row['model']}{star} | {short(row['valid'])} | "
            f"{short(row['test']['mean'])} ± {short(row['test']['std'])} | {scores}"
            f"{row['parameters']:,} | {row['train_seconds']:.1f} |")
    if kept["failed"]:
        lines.append(f"\nFailed: {', '.join(kept['failed'])}.")
    return "\n".join(lines)


def claims(kept):
    gain, linear = kept["gain"], kept.get("linear")
    if gain:
        yield (f"Chosen on validation: `{gain['model']}`; over `{gain['over']}`: {gain['mean']:+.3f} "
               f"[{gain['low']:+.3f}, {gain['high']:+.3f}] in {gain['metric']} on test "
               "(positive is better; paired bootstrap over rows, mean over seeds).")
    if linear:
        verdict = ("above" if linear["low"] > 0 else "below" if linear["high"] < 0 else
                   "not distinguishable from")
        yield (f"Best linear baseline, fitted here: {linear['baseline']}, {linear['score']:.3f}. "
               f"`{linear['model']}` is {verdict} it: {linear['mean']:+.3f} [{linear['low']:+.3f}, "
               f"{linear['high']:+.3f}] on test (paired bootstrap over rows, mean over seeds).")


def section(name, file, title, remark, kept):
    if not kept:
        return f"## {title}\n\n`{file}`: not run.\n"
    text = [f"## {title}", "", f"`{kept['command']}`"]
    short_of = [f"{row['model']} {row['seeds']}" for row in kept["rows"] if row["seeds"] < SEEDS]
    if short_of:
        text += ["", f"**Unfinished.** Of {SEEDS} seeds, these have fewer: {', '.join(short_of)}."]
    if remark:
        text += ["", remark]
    text += ["", table(kept)]
    if name in CITED:
        text += ["", f"Published or cited: {CITED[name]}."]
    for claim in claims(kept):
        text += ["", claim]
    return "\n".join(text) + "\n"


def write_page():
    notes = ROOT / "docs" / "results-notes.md"
    parts = ["# Results on real data", "",
             "Made by `scripts/results.py`; do not edit by hand. Models are ordered by their score on "
             "validation, which also chose epochs and options; test was scored once. ± is the deviation over "
             "seeds; * marks the single modality that is best on validation. Every fraction is of 1.", ""]
    if notes.exists():
        parts += [notes.read_text().strip(), ""]
    everything = kept_results()
    for name, file, title, _, _, remark in EXPERIMENTS:
        parts.append(section(name, file, title, remark, everything.get(name)))
    (ROOT / "docs" / "results.md").write_text("\n".join(parts))


def main():
    wanted = [a for a in sys.argv[1:] if a != "--write"]
    unknown = set(wanted) - {e[0] for e in EXPERIMENTS}
    if unknown:
        sys.exit(f"unknown experiment: {', '.join(sorted(unknown))}")
    for name, file, _, modalities, options, _ in EXPERIMENTS:
        if wanted and name not in wanted:
            continue
        if "--write" not in sys.argv:
            print(f"== {name}", flush=True)
            compare(name, file, modalities, options)
        kept = digest(name, file, modalities)
        if kept:
            keep(name, kept)
    write_page()


if __name__ == "__main__":
    main()
