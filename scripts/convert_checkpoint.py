#!/usr/bin/env python3
"""Converts a checkpoint in PyTorch's own format into safetensors, which mmfuse reads. Needs Python alone: neither
torch nor numpy.

    scripts/convert_checkpoint.py pytorch_model.bin -o model.safetensors
    scripts/convert_checkpoint.py checkpoint.pt --key model -o model.safetensors
    scripts/convert_checkpoint.py checkpoint.pt --list

Such a file is a pickle: a program for Python's unpickler, which may call anything. Here the unpickler knows tensors,
dictionaries, lists and plain values, and nothing else: a file that names anything else is refused by that name, and
nothing in it is ever run. With --stand-ins what it cannot know (settings of a training run, say) becomes an empty
stand-in, still without running anything, and is left out.

Tensors keep their names. What cannot be kept is listed on standard error: values that are no tensors, element types
that safetensors or mmfuse lacks, names that are no printable text or too long. Both formats of torch.save are read, the
zip archive (since 1.6) and the one before.
"""
import argparse
import io
import itertools
import json
import math
import os
import pickle
import struct
import sys
import tempfile
import zipfile

# What torch calls a storage of these elements, safetensors' code, and bytes of an element.
STORAGES = {
    "DoubleStorage": ("F64", 8),
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
}
DTYPES = {"uint16": ("U16", 2), "uint32": ("U32", 4), "uint64": ("U64", 8)}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
MAX_PICKLE_BYTES = 1 << 28
# Strides of 0 repeat elements: a small file must not become a huge one.
MAX_EXPANSION = 4096
MAX_NAME_BYTES = 512
MAX_DIMS = 6
RESERVED = "__metadata__"


class Refused(Exception):
    """The file is no checkpoint, or wants what is not allowed."""


class Tensor:
    """Where a tensor's elements lie: a storage, an offset and strides, all counted in elements."""

    __slots__ = ("storage", "offset", "shape", "strides", "code", "width")

    def __init__(self, storage, offset, shape, strides, element=None):
        if not isinstance(storage, Storage):
            raise Refused("a tensor without a storage")
        numbers = (offset, *shape, *strides)
        if any(type(n) is not int or n < 0 for n in numbers) or len(shape) != len(strides):
            raise Refused("a tensor whose shape or strides are no whole numbers from 0 up")
        self.storage, self.offset, self.shape, self.strides = storage, offset, tuple(shape), tuple(strides)
        self.code, self.width = element or (storage.code, storage.width)
        if self.code is None:
            raise Refused("a tensor of unknown elements")
        last = offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides)) + 1
        if 0 not in self.shape and last * self.width > storage.n_bytes:
            raise Refused(f"a tensor of shape {list(self.shape)} that reaches beyond its storage")
        if math.prod(self.shape) * self.width > MAX_EXPANSION * storage.n_bytes:
            raise Refused(f"a tensor of shape {list(self.shape)} that repeats a small storage")

    def pieces(self, data):
        """The elements in row-major order, as slices of the storage's bytes that follow each other."""
        if 0 in self.shape:
            return
        run, inner = 1, len(self.shape)
        while inner > 0 and (self.strides[inner - 1] == run or self.shape[inner - 1] == 1):
            run *= self.shape[inner - 1]
            inner -= 1
        outer = [range(0, n * s, s) if s else [0] * n for n, s in zip(self.shape[:inner], self.strides[:inner])]
        for steps in itertools.product(*outer):
            start = (self.offset + sum(steps)) * self.width
            yield data[start : start + run * self.width]


class Storage:
    """A block of elements: its key in the file; the bytes come later."""

    __slots__ = ("key", "code", "width", "n_bytes")

    def __init__(self, key, element, count):
        self.key = key
        self.code, self.width = element
        self.n_bytes = count * self.width


class StorageKind:
    __slots__ = ("element",)

    def __init__(self, element):
        self.element = element


class ElementKind(StorageKind):
    """torch.uint16 and its like, which have no storage of their own."""

    __slots__ = ()


class Pairs(dict):
    """An OrderedDict whose attributes (a state_dict's _metadata) are dropped."""

    __slots__ = ()

    def __setstate__(self, state):
        pass


class StandIn:
    """In place of an object of a class that is not known: takes everything, does nothing."""

    __slots__ = ()

    def __init__(self, *_, **__):
        pass

    def __call__(self, *_, **__):
        return StandIn()

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, _):
        pass

    def extend(self, _):
        pass


class Call:
    """A function that a pickle may call. Without attributes, so that a pickle cannot change it."""

    __slots__ = ("_function",)

    def __init__(self, function):
        object.__setattr__(self, "_function", function)

    def __setattr__(self, name, value):
        raise Refused("the file tries to change a function")

    def __call__(self, *arguments):
        return self._function(*arguments)


def rebuild_tensor(storage, offset, shape, strides, *_):
    return Tensor(storage, offset, shape, strides)


def rebuild_typed_tensor(storage, offset, shape, strides, requires_grad, hooks, kind, *_):
    if not isinstance(kind, StorageKind):
        raise Refused("a tensor of unknown elements")
    return Tensor(storage, offset, shape, strides, kind.element)


def rebuild_parameter(tensor, *_):
    if not isinstance(tensor, Tensor):
        raise Refused("a parameter that is no tensor")
    return tensor


def pairs(items=()):
    if not isinstance(items, (list, tuple)):
        raise Refused("an OrderedDict of something else than pairs")
    return Pairs(items)


KNOWN = {
    ("collections", "OrderedDict"): Call(pairs),
    ("torch._utils", "_rebuild_tensor"): Call(rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Call(rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): Call(rebuild_typed_tensor),
    ("torch._utils", "_rebuild_parameter"): Call(rebuild_parameter),
    ("torch", "Size"): Call(tuple),
    ("torch.storage", "UntypedStorage"): StorageKind(("U8", 1)),
    **{("torch", name): StorageKind(element) for name, element in STORAGES.items()},
    **{("torch", name): ElementKind(element) for name, element in DTYPES.items()},
}


class Unpickler(pickle.Unpickler):
    def __init__(self, file, stand_ins):
        super().__init__(file, encoding="utf-8")
        self.stand_ins = stand_ins
        self.unknown = set()

    def find_class(self, module, name):
        known = KNOWN.get((module, name))
        if known is not None:
            return known
        if not self.stand_ins:
            raise Refused(
                f"the file names {module}.{name}, which is no part of a tensor: if it comes from someone you trust, "
                "--stand-ins leaves such objects out without running them"
            )
        self.unknown.add(f"{module}.{name}")
        return StandIn

    def persistent_load(self, reference):
        if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
            raise Refused("a reference to something else than a storage")
        _, kind, key, _, count = reference[:5]
        if len(reference) > 5 and reference[5] is not None:
            raise Refused("a view of a storage, which files of very old versions have")
        if not isinstance(kind, StorageKind) or type(count) is not int or count < 0 or not isinstance(key, str):
            raise Refused("a storage of unknown elements")
        return Storage(key, kind.element, count)


def unpickle(file, stand_ins):
    unpickler = Unpickler(file, stand_ins)
    try:
        return unpickler.load(), unpickler.unknown
    except Refused:
        raise
    except Exception as error:  # what a damaged pickle raises has no common class
        raise Refused(f"the pickle inside is damaged: {type(error).__name__}: {error}") from error


# ---- The two formats -------------------------------------------------------------------------


class ZipCheckpoint:
    def __init__(self, path, stand_ins):
        try:
            self.archive = zipfile.ZipFile(path)
            names = self.archive.namelist()
        except zipfile.BadZipFile as error:
            raise Refused(f"a damaged zip archive: {error}") from error
        found = [name for name in names if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(found) != 1:
            raise Refused("a zip archive without data.pkl: torch.save did not write it")
        self.folder = found[0][: -len("data.pkl")]
        if self.folder + "byteorder" in names and self.read("byteorder", 64).strip() != b"little":
            raise Refused("written on a machine of the other byte order")
        content = io.BytesIO(self.read("data.pkl", MAX_PICKLE_BYTES))
        self.content, self.unknown = unpickle(content, stand_ins)

    def read(self, name, most):
        try:
            entry = self.archive.getinfo(self.folder + name)
            if entry.file_size > most or entry.compress_type != zipfile.ZIP_STORED:
                raise Refused(f"{name} has over {most} bytes or is compressed, which torch.save does not do")
            return self.archive.read(self.folder + name)
        except (KeyError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
            raise Refused(f"{name}: {error}") from error

    def bytes_of(self, storage):
        return self.read(f"data/{storage.key}", storage.n_bytes)


class LegacyCheckpoint:
    def __init__(self, path, stand_ins):
        self.file = open(path, "rb")
        if unpickle(self.file, False)[0] != LEGACY_MAGIC or unpickle(self.file, False)[0] != LEGACY_PROTOCOL:
            raise Refused("torch.save did not write it")
        unpickle(self.file, False)
        self.content, self.unknown = unpickle(self.file, stand_ins)
        keys = unpickle(self.file, False)[0]
        if not isinstance(keys, list):
            raise Refused("no list of storages")
        self.places = {}
        widths = {t.storage.key: t.storage.width for t in tensors_in(self.content)}
        size = os.path.getsize(path)
        for key in keys:
            head = self.file.read(8)
            if len(head) != 8 or not isinstance(key, str):
                raise Refused("truncated")
            count = struct.unpack("<q", head)[0]
            if key not in widths:
                raise Refused(f"a storage {key!r} of unknown elements")
            self.places[key] = (self.file.tell(), count * widths[key])
            if count < 0 or self.file.tell() + count * widths[key] > size:
                raise Refused("truncated")
            self.file.seek(count * widths[key], os.SEEK_CUR)

    def bytes_of(self, storage):
        start, n_bytes = self.places.get(storage.key, (0, 0))
        self.file.seek(start)
        return self.file.read(n_bytes)


def tensors_in(value):
    """Every tensor of nested dictionaries and lists."""
    todo, seen = [value], set()
    while todo:
        one = todo.pop()
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, (dict, list, tuple)) and id(one) not in seen:
            seen.add(id(one))
            todo += one.values() if isinstance(one, dict) else one


def open_checkpoint(path, stand_ins):
    with open(path, "rb") as file:
        head = file.read(4)
    return ZipCheckpoint(path, stand_ins) if head == b"PK\3\4" else LegacyCheckpoint(path, stand_ins)


# ---- Choosing --------------------------------------------------------------------------------


def choose(content, key):
    """The dictionary of tensors: the one at `key`, else the whole, else the only one inside."""
    for part in key.split(".") if key else ():
        if not isinstance(content, dict) or part not in content:
            raise Refused(f"there is no {key!r}; at hand: {', '.join(map(repr, content))}")
        content = content[part]
    if not isinstance(content, dict):
        raise Refused("no dictionary of tensors")
    if key or any(isinstance(value, Tensor) for value in content.values()):
        return content
    inside = [k for k, v in content.items() if isinstance(v, dict) and any(isinstance(t, Tensor) for t in v.values())]
    if len(inside) != 1:
        raise Refused(f"several dictionaries of tensors, choose one with --key: {inside}" if inside else "no tensors")
    print(f"taking the tensors of {inside[0]!r}", file=sys.stderr)
    return content[inside[0]]


def why_not(name, value):
    if not isinstance(name, str):
        return "its name is no text"
    if not isinstance(value, Tensor):
        return f"no tensor, but {type(value).__name__}"
    if not name or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES or name == RESERVED:
        return "its name cannot be kept"
    return f"{len(value.shape)} dimensions; {MAX_DIMS} are read" if len(value.shape) > MAX_DIMS else None


def keep(content):
    kept = {}
    for name, value in content.items():
        reason = why_not(name, value)
        if reason is None:
            kept[name] = value
        else:
            print(f"left out: {name!r}: {reason}", file=sys.stderr)
    owners = {}
    for name, tensor in kept.items():
        place = (tensor.storage.key, tensor.offset, tensor.shape, tensor.strides)
        if 0 not in tensor.shape and place in owners:
            print(f"tied: {name!r} is {owners[place]!r}; both are written", file=sys.stderr)
        owners.setdefault(place, name)
    if not kept:
        raise Refused("no tensors to write")
    return kept


# ---- Writing ---------------------------------------------------------------------------------


def write(path, kept, checkpoint):
    """Under a temporary name that becomes `path` when all is there. Widest elements first, so that all are aligned."""
    order = sorted(kept, key=lambda name: (-kept[name].width, name))
    header, end = {}, 0
    for name in order:
        tensor = kept[name]
        start, end = end, end + math.prod(tensor.shape) * tensor.width
        header[name] = {"dtype": tensor.code, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    folder = os.path.dirname(os.path.abspath(path))
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".convert-", delete=False) as out:
        try:
            out.write(struct.pack("<Q", len(text)) + text)
            for name in order:
                storage = kept[name].storage
                data = memoryview(checkpoint.bytes_of(storage))
                if len(data) < storage.n_bytes:
                    raise Refused(f"{name!r}: its storage has {len(data)} bytes instead of {storage.n_bytes}")
                for piece in kept[name].pieces(data):
                    out.write(piece)
            out.flush()
            os.fsync(out.fileno())
            os.chmod(out.name, 0o644)
            os.replace(out.name, path)
        except BaseException:
            os.unlink(out.name)
            raise


def convert(options):
    checkpoint = open_checkpoint(options.checkpoint, options.stand_ins)
    for name in sorted(checkpoint.unknown):
        print(f"a stand-in instead of {name}", file=sys.stderr)
    kept = keep(choose(checkpoint.content, options.key))
    if options.list:
        for name, tensor in kept.items():
            print(f"{name}  {tensor.code}  {list(tensor.shape)}")
        return
    write(options.out, kept, checkpoint)
    print(f"{options.out}: {len(kept)} tensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a file that torch.save wrote")
    parser.add_argument("-o", "--out", help="the safetensors file to write")
    parser.add_argument("--key", help="which entry of the file holds the tensors, as in model or ema.state_dict")
    parser.add_argument("--list", action="store_true", help="print names, element types and shapes instead")
    parser.add_argument("--stand-ins", action="store_true", help="leave out objects of unknown classes")
    options = parser.parse_args()
    if bool(options.out) == options.list:
        parser.error("give either -o FILE or --list")
    try:
        convert(options)
    except (Refused, OSError) as error:
        print(f"{options.checkpoint}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
