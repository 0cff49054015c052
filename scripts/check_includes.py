#!/usr/bin/env python3
"""Checks the order of the floors and the uniqueness of file names.

    check_includes.py [FOLDER]      checks the tree at FOLDER (default: the one this script is in)
    check_includes.py --self-test   plants each kind of violation in a scratch tree and expects it

Rules (docs/architecture.md): a folder of src/ and the public header of its name include headers of lower
floors and their own only; encoders and fusion do not include each other; tensor does not see io and
data, nor they tensor; cli, bindings and helpers include include/mmfuse and their own folder alone. Every quoted
include names an existing file. No two source files of the tree have one name.
"""
import os
import re
import subprocess
import sys
import tempfile

# What a floor may include besides itself.
ALLOWED = {"base": set()}
ALLOWED["io"] = {"base"}
ALLOWED["data"] = {"base", "io"}
ALLOWED["tensor"] = {"base"}
ALLOWED["nn"] = {"base", "io", "data", "tensor"}
ALLOWED["encoders"] = ALLOWED["nn"] | {"nn"}
ALLOWED["fusion"] = ALLOWED["nn"] | {"nn"}
ALLOWED["models"] = ALLOWED["encoders"] | {"encoders", "fusion"}
ALLOWED["tasks"] = ALLOWED["models"] | {"models"}
ALLOWED["train"] = ALLOWED["tasks"] | {"tasks"}
ALLOWED["report"] = ALLOWED["train"] | {"train"}

FACES = ("cli", "bindings", "helpers")
# Floors of the public headers that are not called like theirs. metrics.h holds the list of named scores that the
# floors from models up hand on; tool.h is what the upper floors offer the faces.
HEADER_FLOORS = {"media": "io", "metrics": "nn", "model": "models", "named": "nn", "tool": "train", "prepare": "train"}
# For the faces and for users, not for the library.
FACE_HEADERS = {"mmfuse"}
# Several files may have these names, or their name says nothing outside their folder.
COMMON_NAMES = {"__init__.py", "conftest.py", "setup.py"}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
SOURCE = (".c", ".h", ".py", ".sh", ".def")


def tracked_files(root):
    """Files of the tree: what git knows or would add; everything where there is no repository."""
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True)
    if listed.returncode == 0:
        names = listed.stdout.decode().split("\0")
        return sorted(n for n in set(names) if n and os.path.isfile(os.path.join(root, n)))
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f not in ("build", ".git")]
        found += [os.path.relpath(os.path.join(folder, f), root) for f in files]
    return sorted(found)


def header_floor(path):
    stem = os.path.basename(path).removesuffix(".h")
    return HEADER_FLOORS.get(stem, stem)


def floor_of_include(name):
    """The floor that an include belongs to; "face" for headers of the faces; None for neither."""
    parts = name.split("/")
    if parts[0] == "mmfuse":
        stem = header_floor(name)
        return stem if stem in ALLOWED else "face" if stem in FACE_HEADERS else None
    return parts[0] if len(parts) > 1 and parts[0] in ALLOWED else None


def check_include(path, name, files):
    """A complaint about one include of one file, or None."""
    own_folder = os.path.dirname(path)
    if ".." in name.split("/"):
        return "goes up the tree; includes start at src/ or include/"
    beside = os.path.join(own_folder, name) in files
    if not (beside or "src/" + name in files or "include/" + name in files):
        return "names no file below src/, include/ or its own folder"
    parts = path.split("/")
    public = name.startswith("mmfuse/")
    if parts[0] in FACES:
        return None if public or beside else f"{parts[0]}/ includes include/mmfuse alone"
    if parts[0] == "include":
        floor = header_floor(path)
        if not public:
            return "a public header includes public headers alone"
        if floor in FACE_HEADERS:
            return None
    else:
        floor = parts[1]
    if floor not in ALLOWED:
        return f"{floor} is not a floor"
    target = floor_of_include(name) if public or not beside else floor
    if target is None or target == "face":
        return f"{name} is of no floor that {floor} may include"
    if target != floor and target not in ALLOWED[floor]:
        return f"{floor} must not include {target}"
    return None


def check(root):
    files = tracked_files(root)
    known = set(files)
    complaints = []
    names = {}
    for path in files:
        if path.endswith(SOURCE) and os.path.basename(path) not in COMMON_NAMES:
            names.setdefault(os.path.basename(path), []).append(path)
        if not path.endswith((".c", ".h")) or path.split("/")[0] not in ("src", "include") + FACES:
            continue
        with open(os.path.join(root, path), encoding="utf-8") as source:
            for number, line in enumerate(source, 1):
                found = INCLUDE.match(line)
                complaint = check_include(path, found.group(1), known) if found else None
                if complaint:
                    complaints.append(f'{path}:{number}: "{found.group(1)}": {complaint}')
    for name, paths in sorted(names.items()):
        if len(paths) > 1:
            complaints.append(f"{name}: one name, {len(paths)} files: {', '.join(paths)}")
    return complaints


GOOD_TREE = {
    "include/mmfuse/base.h": "",
    "include/mmfuse/io.h": '#include "mmfuse/base.h"\n',
    "include/mmfuse/tensor.h": '#include "mmfuse/base.h"\n',
    "include/mmfuse/mmfuse.h": '#include "mmfuse/tensor.h"\n',
    "src/io/bytes.h": '#include "mmfuse/io.h"\n',
    "src/tensor/deep/kernel.h": "",
    "src/tensor/tape.c": '#include <math.h>\n#include "tensor/deep/kernel.h"\n',
    "src/nn/layers.c": '#include "io/bytes.h"\n#include "mmfuse/tensor.h"\n',
    "src/encoders/mlp.h": "",
    "src/fusion/concat.h": "",
    "src/models/tfn.c": '#include "encoders/mlp.h"\n#include "fusion/concat.h"\n',
    "cli/main.c": '#include "mmfuse/mmfuse.h"\n#include "options.h"\n',
    "cli/options.h": "",
    "tests/test_all.c": '#include "tensor/deep/kernel.h"\n#include "support.h"\n',
}
# File to add or replace, its text, and a piece of the complaint that must come.
BAD_FILES = [
    ("src/base/text.c", '#include "io/bytes.h"\n', "base must not include io"),
    ("src/tensor/io_use.c", '#  include "mmfuse/io.h"\n', "tensor must not include io"),
    ("src/io/tensor_use.c", '#include "mmfuse/tensor.h"\n', "io must not include tensor"),
    ("src/fusion/bad.c", '#include "encoders/mlp.h"\n', "fusion must not include encoders"),
    ("src/encoders/bad.c", '#include "fusion/concat.h"\n', "encoders must not include fusion"),
    ("src/nn/bad.c", '#include "mmfuse/mmfuse.h"\n', "of no floor"),
    ("src/nn/lost.c", '#include "nn/absent.h"\n', "names no file"),
    ("src/nn/up.c", '#include "../io/bytes.h"\n', "goes up the tree"),
    ("src/attic/old.c", '#include "io/bytes.h"\n', "attic is not a floor"),
    ("cli/bad.c", '#include "io/bytes.h"\n', "cli/ includes include/mmfuse alone"),
    ("helpers/bad.c", '#include "io/bytes.h"\n', "helpers/ includes include/mmfuse alone"),
    ("include/mmfuse/base.h", '#include "mmfuse/io.h"\n', "base must not include io"),
    ("include/mmfuse/io.h", '#include "io/bytes.h"\n', "public headers alone"),
    ("tests/tape.c", "", "one name, 2 files: src/tensor/tape.c, tests/tape.c"),
]


def self_test():
    def run(changes):
        with tempfile.TemporaryDirectory() as root:
            for path, text in {**GOOD_TREE, **changes}.items():
                full = os.path.join(root, path)
                os.makedirs(os.path.dirname(full), exist_ok=True)
                with open(full, "w", encoding="utf-8") as out:
                    out.write(text)
            return check(root)

    wrong = [f"a good tree was refused: {c}" for c in run({})]
    for path, text, piece in BAD_FILES:
        complaints = run({path: text})
        if len(complaints) != 1 or piece not in complaints[0]:
            wrong.append(f"{path}: expected one complaint with \"{piece}\", got {complaints}")
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"self-test: {len(BAD_FILES)} violations planted, {len(wrong)} failures")
    return 1 if wrong else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    complaints = check(os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else here))
    for line in complaints:
        print(line, file=sys.stderr)
    print(f"include order and file names: {len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
