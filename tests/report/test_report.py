"""The HTML report in a browser: every plot has its data, texts can be read, nothing overflows.

Drives Debian's chromium through chromedriver. Without them the tests are skipped, unless MMFUSE_NEED_BROWSER is set.
MMFUSE_BUILD names the build folder (default: build/release).
"""
import json
import math
import os
import pathlib
import shutil
import subprocess

import pytest

selenium = pytest.importorskip("selenium", reason="selenium is not installed: the report is not tested")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MMFUSE_BUILD", ROOT / "build" / "release")).resolve()
PAGES = ("compare", "digits", "mood", "made", "sizes", "odd")
WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
SMALLEST_TEXT = 11
CONTRAST = 4.5


@pytest.fixture(scope="session")
def browser():
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        message = "chromium and chromedriver are not installed: the HTML report is NOT tested"
        if os.environ.get("MMFUSE_NEED_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(service=Service(driver), options=options)
    yield found
    found.quit()


def run(folder, *words):
    done = subprocess.run([str(BUILD / "mmfuse"), *map(str, words)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def made_comparison():
    """A comparison with everything that a result may hold, and names that try to break the page."""
    leaders, trials = [], []
    names = ["joint-concat", "<b>bold</b> & \"quoted\"", "multiplicative-interactions", "only-audio", "no-latency"]
    for i, name in enumerate(names):
        mean = 0.9 - 0.03 * i
        leader = {"model": name, "structure": "x", "seeds": 2, "parameters": 1000 * i, "train_seconds": 1.5,
                  "metrics": {"accuracy": {"mean": mean, "std": 0.01, "n": 2}},
                  "valid": {"accuracy": {"mean": mean + 0.01, "std": 0.01, "n": 2}}}
        if name != "no-latency":
            leader["latency_seconds"] = 1e-5 * 7 ** i
            leader["pareto"] = i in (0, 3)
        if i > 0:
            leader["against"] = {"joint-concat": {"difference": -0.03 * i, "low": -0.03 * i - 0.02,
                                                  "high": -0.03 * i + 0.02, "p": 0.01, "p_adjusted": 0.04}}
        if name != "only-audio":
            leader["against"] = leader.get("against", {})
            leader["against"]["best_single"] = {"difference": 0.02, "low": -0.01, "high": 0.05, "p": 0.2,
                                                "p_adjusted": 0.4}
        leaders.append(leader)
        for seed in range(2):
            trial = {"model": name, "seed": seed, "metrics": {"accuracy": mean + 0.01 * seed}, "epochs": 3}
            if name != "no-latency":
                trial["curve"] = [{"epoch": e + 1, "train_loss": 1 / (e + 1), "valid_loss": 1.2 / (e + 1) + 0.05 * e,
                                   "valid_accuracy": 0.5} for e in range(6)]
            trials.append(trial)
    trials.append({"model": "tfn", "seed": 0, "metrics": {}, "error": "killed by signal 11 <i>"})
    gain = {"metric": "accuracy", "model": "joint-concat", "over": "only-audio", "mean": 0.09, "low": -0.01,
            "high": 0.2, "level": 0.95}
    return {"data": "/a/b/made & made.npz", "task": "classification", "main_metric": "accuracy", "trials": trials,
            "leaderboard": leaders, "best_single": "only-audio", "best_fusion": "joint-concat", "gain": gain}


def crowded_comparison():
    """Many models in a small part of the plot, in steps along the front."""
    leaders = [{"model": f"model-{i}-of-a-crowd", "seeds": 1, "parameters": i, "pareto": i % 5 == 0,
                "metrics": {"accuracy": {"mean": 0.5 + 0.02 * i - 0.04 * (i % 5), "std": 0, "n": 1}},
                "latency_seconds": 1e-5 * 1.2 ** i} for i in range(20)]
    leaders += [{"model": "far", "seeds": 1, "parameters": 1, "pareto": False, "latency_seconds": 1e-2,
                 "metrics": {"accuracy": {"mean": 0.1, "std": 0, "n": 1}}}]
    return {"data": "c.npz", "task": "classification", "main_metric": "accuracy", "trials": [], "leaderboard": leaders}


def comparison_of_all_sizes():
    """Errors from 1e-7 to 1e30 of regressions that did not all go well, with one seed and with two."""
    leaders, trials = [], []
    for i, (mean, seeds) in enumerate([(1e-7, 1), (0.012, 2), (54321.7, 1), (-1.234e12, 2), (1e30, 2)]):
        name = f"model-{i}"
        score = {"mae": {"mean": mean, "std": 0 if seeds == 1 else abs(mean) / 3, "n": seeds}}
        against = {"difference": -mean, "low": -2 * mean, "high": mean, "p": 1e-9, "p_adjusted": 1}
        leaders.append({"model": name, "seeds": seeds, "parameters": 10 ** (3 * i), "train_seconds": 1.5,
                        "latency_seconds": 1e-5 * (i + 1), "pareto": i < 2, "metrics": score, "valid": score,
                        "against": {"best_single": against}})
        trials += [{"model": name, "seed": s, "metrics": {"mae": mean * (1 + s / 3)}, "epochs": 2,
                    "curve": [{"epoch": e, "train_loss": mean / e, "valid_loss": mean / e} for e in (1, 2, 3)]}
                   for s in range(seeds)]
    gain = {"metric": "mae", "model": "model-0", "over": "model-4", "mean": 1e30, "low": -1e12, "high": 2e30,
            "level": 0.95}
    return {"data": "s.npz", "task": "regression", "main_metric": "mae", "trials": trials, "leaderboard": leaders,
            "best_single": "model-4", "best_fusion": "model-0", "gain": gain}


def odd_explanation():
    """Many modalities with long names, also of wide characters, many classes, and nothing else."""
    modalities = [f"a modality with a long name, number {i}" for i in range(9)]
    modalities[4] = "\u6a21\u614b" * 12
    classes = [f"class with a long name {i}" for i in range(35)]
    classes[7] = "\u985e\u5225" * 12
    levels = [0.1 * i for i in range(10)]
    curves = [{"noise": "gaussian", "modality": m, "scores": [0.9 - 0.01 * i * l for l in range(10)], "relative": 0.7}
              for i, m in enumerate(modalities)]
    return {"report": "explanation", "model": "m", "data": "d.npz", "split": "test", "task": "classification",
            "main_metric": "accuracy", "higher_is_better": True, "n": 10, "modalities": modalities,
            "metrics": {"accuracy": 0.5}, "absent": "zeros",
            "contributions": {"method": "sampled", "error_of": "orders", "empty": 0.1, "full": 0.5,
                              "prior": {"of": "train", "rows": 4, "score": 0.1},
                              "values": [{"modality": m, "value": 0.1 - 0.02 * i, "error": 0.01}
                                         for i, m in enumerate(modalities)]},
            "subsets": [{"modalities": [m], "metrics": {"accuracy": 0.3}} for m in modalities],
            "outputs": [], "robustness": {"levels": levels, "curves": curves, "draws": 1, "against": None},
            "confusion": {"classes": classes, "counts": [[(i * k) % 7 for k in range(35)] for i in range(35)]}}


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """Page and JSON by name: real runs, and results that are written by hand."""
    folder = tmp_path_factory.mktemp("reports")
    digits, mood = ROOT / "data" / "digits-views.npz", ROOT / "tests" / "cli" / "data" / "mood.csv"
    quick = ("--train-per-class", "10", "--epochs", "12", "--threads", "1")
    run(folder, "compare", digits, "--models", "only-fac,only-pix,joint-concat,gmu,late-mean", "--seeds", "2",
        "--folder", "compare", *quick)
    run(folder, "train", digits, "--model", "gmu", "-o", "digits.mmf", *quick)
    run(folder, "train", mood, "--model", "joint-concat", "-o", "mood.mmf", "--epochs", "12")
    found = {"compare": (folder / "compare" / "report.html",
                         json.loads((folder / "compare" / "results.json").read_text()))}
    for name, data in (("digits", digits), ("mood", mood)):
        text = run(folder, "explain", f"{name}.mmf", "--data", data, "--draws", "1", "--json", "--report",
                   f"{name}.html")
        found[name] = (folder / f"{name}.html", json.loads(text))
    for name, result in (("made", made_comparison()), ("crowd", crowded_comparison()),
                         ("sizes", comparison_of_all_sizes()), ("odd", odd_explanation())):
        done = subprocess.run([str(BUILD / "render_page")], input=json.dumps(result), capture_output=True,
                              text=True)
        assert done.returncode == 0, done.stderr
        (folder / f"{name}.html").write_text(done.stdout)
        found[name] = (folder / f"{name}.html", result)
    return found


def show(browser, page, width=1280, scheme="light"):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(page[0].as_uri())
    return page[1]


def count(browser, selector):
    return browser.execute_script("return document.querySelectorAll(arguments[0]).length", selector)


# ---- The page ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_page_is_complete_and_quiet(browser, pages, name):
    browser.get_log("browser")
    result = show(browser, pages[name])
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    embedded = browser.execute_script("return JSON.parse(document.getElementById('data').textContent)")
    assert embedded == json.loads(json.dumps(result))
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    links = browser.execute_script("return [...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.hash.slice(1))")
    assert links and set(links) <= set(ids)


@pytest.mark.parametrize("name", PAGES)
def test_plots_have_names_and_tables(browser, pages, name):
    show(browser, pages[name])
    plots = browser.execute_script("""return [...document.querySelectorAll('.plot')].map(p => [
        p.tabIndex, p.getAttribute('role'), p.getAttribute('aria-label'),
        !!p.closest('figure').querySelector('table') || !!p.closest('section').querySelector('.panels + details table')
        ])""")
    assert len(plots) >= 3
    for tab, role, label, has_table in plots:
        assert tab == 0 and role == "img" and label and has_table


def test_keyboard_reaches_everything(browser, pages):
    show(browser, pages["made"])
    body = browser.find_element("tag name", "body")
    body.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("class") == "skip"
    assert browser.switch_to.active_element.rect["x"] >= 0
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.execute_script("return location.hash") == "#content"
    summary = browser.find_element("css selector", "#leaderboard summary")
    summary.send_keys(Keys.ENTER)
    assert browser.find_element("css selector", "#leaderboard table").is_displayed()


# ---- Marks are the data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ("compare", "made"))
def test_marks_of_a_comparison(browser, pages, name):
    c = show(browser, pages[name])
    leaders, trials = c["leaderboard"], [t for t in c["trials"] if "error" not in t]
    curves = [t["curve"] for t in trials if t.get("curve")]
    assert leaders and curves
    assert count(browser, "#leaderboard .mark") == len(leaders)
    assert count(browser, "#leaderboard .dot") == len(trials)
    assert count(browser, "#leaderboard tbody tr") == len(leaders)
    timed = [x for x in leaders if x.get("latency_seconds")]
    assert count(browser, "#pareto .mark") == len(timed)
    front = [x for x in timed if x["pareto"]] if "pareto" in timed[0] else None
    if front is not None:
        assert count(browser, "#pareto .mark.strong") == len(front)
    assert count(browser, "#learning .mark") == 2 * len(curves)
    points = browser.execute_script(
        "return [...document.querySelectorAll('#learning .mark')].map(p => Number(p.dataset.points))")
    assert sorted(points) == sorted(2 * [len(c) for c in curves])
    for key, figure in (("best_single", "against-single"), ("joint-concat", "against-concat")):
        wanted = [x for x in leaders if x.get("against", {}).get(key)]  # none against itself
        assert count(browser, f"#{figure} .mark") == len(wanted)
    assert count(browser, ".failed li") == len(c["trials"]) - len(trials)


@pytest.mark.parametrize("name", ("digits", "mood", "odd"))
def test_marks_of_an_explanation(browser, pages, name):
    e = show(browser, pages[name])
    assert count(browser, "#contributions .mark") == len(e["modalities"])
    subsets = e["subsets"]
    if len(subsets) > 24:
        n = len(e["modalities"])
        subsets = [s for s in subsets if len(s["modalities"]) in (1, n - 1, n)]
    assert count(browser, "#subsets .mark") == len(subsets)
    assert count(browser, "#subsets .has") == sum(len(s["modalities"]) for s in subsets)
    assert count(browser, "#subsets tbody tr") == len(e["subsets"])
    curves = e["robustness"]["curves"]
    assert count(browser, "#robustness .mark") == len(curves)
    assert count(browser, "#robustness .node") == sum(s is not None for c in curves for s in c["scores"])
    assert count(browser, "#robustness tbody tr") == len(curves)
    if "scatter" in e:
        assert count(browser, "#scatter .mark") == len(e["scatter"]["true"])
    else:
        assert count(browser, "#confusion .mark") == len(e["confusion"]["classes"]) ** 2
    bins = [b for b in e.get("reliability", []) if b["n"] > 0]
    assert count(browser, "#reliability .mark") == len(bins)
    groups = {o["group"] for o in e["outputs"] if o["group"]}
    drawn = browser.execute_script("return [...document.querySelectorAll('#gates h4')].map(h => h.textContent)")
    assert groups <= set(drawn)


def test_bars_are_as_long_as_their_values(browser, pages):
    e = show(browser, pages["digits"])
    values = sorted((v["value"] for v in e["contributions"]["values"]), reverse=True)
    widths = browser.execute_script(
        "return [...document.querySelectorAll('#contributions .mark')].map(b => b.getBoundingClientRect().width)")
    assert values[0] > 0
    for value, width in zip(values, widths):
        assert math.isclose(width / widths[0], abs(value) / values[0], abs_tol=0.01)


def test_confusion_cells_are_the_counts(browser, pages):
    e = show(browser, pages["digits"])
    cells = browser.execute_script("""return [...document.querySelectorAll('#confusion .cell')].map(
        g => Number(g.querySelector('text') ? g.querySelector('text').textContent : 0))""")
    assert cells == [count for row in e["confusion"]["counts"] for count in row]


# ---- Reading -----------------------------------------------------------------------------------------------------


def test_numbers_of_any_size_are_short(browser, pages):
    show(browser, pages["sizes"])
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    shown = browser.execute_script("""return [...document.querySelectorAll(
        '.big, td, .plot text.value, .plot text.tick')].map(e => e.textContent)""")
    assert {"1.0e-7", "54322", "\u22121.23e12 \u00b1 4.11e11"} <= set(shown)
    numbers = [text for text in shown if not text.startswith("model-")]
    assert [text for text in numbers if "\u00b1 0.000" in text] == []
    # Counts have commas, and may be as long as they are.
    assert [text for text in numbers if len(text) > len("\u22121.23e12 \u00b1 4.11e11") and "," not in text] == []


def test_epochs_are_whole(browser, pages):
    for name in ("compare", "made", "sizes"):
        show(browser, pages[name])
        ticks = browser.execute_script("return [...document.querySelectorAll('#learning .tick.mid')].map(t => t.textContent)")
        assert ticks and all(tick.isdigit() for tick in ticks)


TEXTS = """
const found = [];
for (const t of document.querySelectorAll('.plot text')) {
    const box = t.getBoundingClientRect();
    if (box.width === 0) continue;
    const plot = t.closest('.plot').getBoundingClientRect();
    found.push([t.firstChild.nodeType === 3 ? t.textContent : t.lastChild.textContent,
                parseFloat(getComputedStyle(t).fontSize), box.left - plot.left, plot.right - box.right,
                box.top - plot.top, plot.bottom - box.bottom, innerWidth - box.right, box.left]);
}
return found;
"""

SMALL = """
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), small = [];
for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    const e = n.parentElement;
    if (!n.textContent.trim() || ['SCRIPT', 'title', 'STYLE'].includes(e.tagName) || !e.getClientRects().length)
        continue;
    const size = parseFloat(getComputedStyle(e).fontSize);
    if (size < arguments[0]) small.push([size, n.textContent]);
}
return small;
"""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_texts_can_be_read(browser, pages, name, width, scheme):
    show(browser, pages[name], width, scheme)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(SMALL, SMALLEST_TEXT) == []
    texts = browser.execute_script(TEXTS)
    assert len(texts) > 20
    outside = [t for t in texts if min(t[2:]) < -1]
    assert outside == []


# Boxes of names, what is drawn below them, and how often the line of the front runs through each.
NAMES = """
const path = document.querySelector('#pareto path.stairs'), line = [];
for (let s = 0, length = path.getTotalLength(); s <= length; s += .5) {
    const p = path.getPointAtLength(s).matrixTransform(path.getScreenCTM());
    line.push([p.x, p.y]);
}
const box = e => (r => [r.left, r.top, r.right, r.bottom])(e.getBoundingClientRect());
const back = getComputedStyle(document.body).backgroundColor;
return [[...document.querySelectorAll('#pareto text.value')].map(t => {
    const [x0, y0, x1, y1] = box(t), style = getComputedStyle(t);
    return {name: t.textContent, box: [x0, y0, x1, y1],
            halo: style.paintOrder.startsWith('stroke') && style.stroke === back && parseFloat(style.strokeWidth) > 2,
            crossed: line.filter(([x, y]) => x > x0 && x < x1 && y > y0 && y < y1).length};
}), [...document.querySelectorAll('#pareto circle')].map(box)];
"""


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ("compare", "made", "crowd"))
def test_names_of_the_front_stand_off_its_line(browser, pages, name, scheme):
    show(browser, pages[name], 1280, scheme)
    names, circles = browser.execute_script(NAMES)
    assert len(names) >= 4
    for i, found in enumerate(names):
        assert found["halo"]
        for other in [n["box"] for n in names[:i]] + circles:
            (a0, b0, a1, b1), (x0, y0, x1, y1) = found["box"], other
            assert not (a0 < x1 and x0 < a1 and b0 + 2 < y1 and y0 < b1 - 2), found["name"]
    if name == "made":  # elsewhere some may have no other free side
        assert [n["name"] for n in names if n["crossed"]] == []


RATIO = """
const channel = c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
const light = c => {
    const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(channel);
    return .2126 * r + .7152 * g + .0722 * b;
};
const back = light(getComputedStyle(document.body).backgroundColor);
const ratio = (element, key) => {
    const own = light(getComputedStyle(element)[key]);
    return (Math.max(own, back) + .05) / (Math.min(own, back) + .05);
};
const found = {};
for (const e of document.querySelectorAll('p, h1, h2, h3, h4, a, dt, dd, summary, th, td'))
    found[e.tagName + '.' + e.className] = ratio(e, 'color');
for (const e of document.querySelectorAll('.plot .tick, .plot .name, .plot .value, .plot .axis'))
    found[e.tagName + '.' + e.getAttribute('class')] = ratio(e, 'fill');
return found;
"""


@pytest.mark.parametrize("scheme", SCHEMES)
def test_colours_follow_the_scheme_with_contrast(browser, pages, scheme):
    show(browser, pages["made"], 1280, scheme)
    back = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(x) for x in back[4:-1].split(","))
    assert brightness > 700 if scheme == "light" else brightness < 120
    ratios = browser.execute_script(RATIO)
    ratios.pop("A.skip")
    assert len(ratios) > 10
    assert {k: r for k, r in ratios.items() if r < CONTRAST} == {}
