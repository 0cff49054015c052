"""scripts/convert_checkpoint.py: what torch.save writes, and files that want something else. Makes its checkpoints
with stand-ins of torch's names, so that torch is not needed."""
import collections
import io
import json
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import types
import zipfile

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "convert_checkpoint.py"
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


@pytest.fixture(autouse=True)
def torch(monkeypatch):
    """Modules with torch's names, for pickle to write them."""
    top, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "HalfStorage", "LongStorage", "QInt8Storage"):
        setattr(top, name, type(name, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda *_: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    top._utils = utils
    monkeypatch.setitem(sys.modules, "torch", top)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return top


class Stored:
    def __init__(self, kind, key, count):
        self.reference = ("storage", kind, key, "cpu", count)


class Made:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if not isinstance(value, Stored):
            return None
        return value.reference + (None,) if self.legacy else value.reference


def pickled(value, legacy=False):
    out = io.BytesIO()
    pickler = Pickler(out, 2)
    pickler.legacy = legacy
    pickler.dump(value)
    return out.getvalue()


def tensor(torch, kind, key, count, shape, strides, offset=0):
    storage = Stored(getattr(torch, kind), key, count)
    return Made(torch._utils._rebuild_tensor_v2, storage, offset, shape, strides, False, collections.OrderedDict())


def save_zip(path, value, storages, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("archive/data.pkl", pickled(value))
        file.writestr("archive/byteorder", "little")
        for key, data in storages.items():
            file.writestr(f"archive/data/{key}", data)


def save_legacy(path, value, storages, width=4):
    with open(path, "wb") as file:
        for part in (MAGIC, PROTOCOL, {"little_endian": True}):
            file.write(pickled(part))
        file.write(pickled(value, legacy=True) + pickled(list(storages)))
        for data in storages.values():
            file.write(struct.pack("<q", len(data) // width) + data)


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False)


def load(path):
    data = path.read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + n])
    body = data[8 + n :]
    assert sum(t["data_offsets"][1] - t["data_offsets"][0] for t in header.values()) == len(body)
    return {k: (t["dtype"], t["shape"], body[slice(*t["data_offsets"])]) for k, t in header.items()}


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)


@pytest.mark.parametrize("save", (save_zip, save_legacy))
def test_tensors_keep_names_values_and_shapes(tmp_path, torch, save):
    value = collections.OrderedDict(
        whole=tensor(torch, "FloatStorage", "0", 6, (2, 3), (3, 1)),
        turned=tensor(torch, "FloatStorage", "0", 6, (3, 2), (1, 3)),
        inner=tensor(torch, "FloatStorage", "0", 6, (2, 2), (3, 1), 1),
        repeated=tensor(torch, "FloatStorage", "0", 6, (2, 2), (0, 1), 4),
        none=tensor(torch, "FloatStorage", "0", 6, (0, 3), (3, 1)),
        single=tensor(torch, "FloatStorage", "0", 6, (), (), 5),
        parameter=Made(torch._utils._rebuild_parameter, tensor(torch, "FloatStorage", "0", 6, (1,), (1,)), True, {}),
    )
    save(tmp_path / "a.pt", value, {"0": floats(1, 2, 3, 4, 5, 6)})
    done = run(tmp_path / "a.pt", "-o", tmp_path / "a.safetensors")
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "a.safetensors") == {
        "whole": ("F32", [2, 3], floats(1, 2, 3, 4, 5, 6)),
        "turned": ("F32", [3, 2], floats(1, 4, 2, 5, 3, 6)),
        "inner": ("F32", [2, 2], floats(2, 3, 5, 6)),
        "repeated": ("F32", [2, 2], floats(5, 6, 5, 6)),
        "none": ("F32", [0, 3], b""),
        "single": ("F32", [], floats(6)),
        "parameter": ("F32", [1], floats(1)),
    }


def test_what_cannot_be_kept_is_listed(tmp_path, torch):
    weight = tensor(torch, "FloatStorage", "0", 1, (1,), (1,))
    value = {"w": weight, "again": weight, "epoch": 3, 7: weight, "bad\nname": weight, "__metadata__": weight}
    value["deep"] = tensor(torch, "FloatStorage", "0", 1, (1,) * 7, (1,) * 7)
    save_zip(tmp_path / "a.pt", value, {"0": floats(1)})
    done = run(tmp_path / "a.pt", "-o", tmp_path / "a.safetensors")
    assert done.returncode == 0, done.stderr
    assert sorted(load(tmp_path / "a.safetensors")) == ["again", "w"]
    for told in ("'epoch': no tensor, but int", "7: its name is no text", "'bad\\nname'", "'__metadata__'", "'deep'"):
        assert f"left out: {told}" in done.stderr
    assert "tied: 'again' is 'w'" in done.stderr


def test_the_dictionary_is_chosen(tmp_path, torch):
    one, two = ({k: tensor(torch, "FloatStorage", "0", 1, (1,), (1,))} for k in ("a", "b"))
    save_zip(tmp_path / "one.pt", {"epoch": 1, "model": one}, {"0": floats(1)})
    done = run(tmp_path / "one.pt", "--list")
    assert done.returncode == 0 and done.stdout == "a  F32  [1]\n" and "taking the tensors of 'model'" in done.stderr
    save_zip(tmp_path / "two.pt", {"model": one, "ema": {"net": two}, "old": two}, {"0": floats(1)})
    done = run(tmp_path / "two.pt", "--list")
    assert done.returncode == 1 and "choose one with --key: ['model', 'old']" in done.stderr
    assert run(tmp_path / "two.pt", "--list", "--key", "ema.net").stdout == "b  F32  [1]\n"
    assert "there is no 'x'" in run(tmp_path / "two.pt", "--list", "--key", "x").stderr


@pytest.mark.parametrize("save", (save_zip, save_legacy))
def test_a_hostile_pickle_runs_nothing(tmp_path, torch, save):
    mark = tmp_path / "mark"
    weight = tensor(torch, "FloatStorage", "0", 1, (1,), (1,))
    for number, call in enumerate(
        (
            Made(os.system, f"touch {mark}"),
            Made(eval, f"open({str(mark)!r}, 'w')"),
            Made(getattr, weight, "__class__"),
            Made(pickle.loads, b"I1\n."),
        )
    ):
        path, out = tmp_path / f"{number}.pt", tmp_path / f"{number}.safetensors"
        save(path, {"w": weight, "x": call}, {"0": floats(1)})
        done = run(path, "-o", out)
        assert done.returncode == 1 and "which is no part of a tensor" in done.stderr
        assert not out.exists() and not mark.exists()
        done = run(path, "-o", out, "--stand-ins")
        assert done.returncode == 0 and "a stand-in instead of" in done.stderr
        assert list(load(out)) == ["w"] and not mark.exists()


def test_lies_about_sizes_are_refused(tmp_path, torch):
    cases = (
        (tensor(torch, "FloatStorage", "0", 2, (3,), (1,)), "reaches beyond its storage"),
        (tensor(torch, "FloatStorage", "0", 2, (2,), (-1,)), "no whole numbers"),
        (tensor(torch, "FloatStorage", "0", 9, (9,), (1,)), "bytes instead of 36"),
        (tensor(torch, "FloatStorage", "1", 2, (2,), (1,)), "data/1"),
        (tensor(torch, "FloatStorage", "0", 2, (1 << 40, 2), (0, 1)), "repeats a small storage"),
        (tensor(torch, "QInt8Storage", "0", 2, (2,), (1,)), "torch.QInt8Storage"),
        (Made(torch._utils._rebuild_tensor_v2, 3, 0, (1,), (1,), False, {}), "without a storage"),
    )
    for value, told in cases:
        save_zip(tmp_path / "a.pt", {"w": value}, {"0": floats(1, 2)})
        done = run(tmp_path / "a.pt", "-o", tmp_path / "a.safetensors")
        assert done.returncode == 1 and told in done.stderr, done.stderr
        assert sorted(os.listdir(tmp_path)) == ["a.pt"]
    save_zip(tmp_path / "a.pt", {"w": cases[0][0]}, {"0": floats(1, 2)}, zipfile.ZIP_DEFLATED)
    assert "compressed" in run(tmp_path / "a.pt", "--list").stderr


def test_cut_files_are_one_message(tmp_path, torch):
    weight = tensor(torch, "FloatStorage", "0", 2, (2,), (1,))
    for save in (save_zip, save_legacy):
        save(tmp_path / "whole.pt", {"w": weight}, {"0": floats(1, 2)})
        data = (tmp_path / "whole.pt").read_bytes()
        for n in range(0, len(data), 97):
            (tmp_path / "cut.pt").write_bytes(data[:n])
            done = run(tmp_path / "cut.pt", "-o", tmp_path / "a.safetensors")
            assert done.returncode == 1 and done.stderr.count("\n") == 1, (n, done.stderr)
