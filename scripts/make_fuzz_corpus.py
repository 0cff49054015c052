#!/usr/bin/env python3
"""Writes the seeds of the fuzz corpora below fuzz/corpus: small valid files of each format, with
every element type and layout, and a few with one lie each. Files that fuzzing added stay. Needs
numpy and the command ffmpeg."""

import io
import json
import pathlib
import struct
import subprocess
import tempfile
import zipfile

import numpy as np

CORPUS = pathlib.Path(__file__).resolve().parent.parent / "fuzz" / "corpus"
DATE = (1980, 1, 1, 0, 0, 0)


def arrays():
    for code in "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1".split():
        yield code, np.arange(6).reshape(2, 3).astype(code)
    yield "big", np.arange(4, dtype=">i4")
    yield "fortran", np.asfortranarray(np.arange(12, dtype="i2").reshape(2, 3, 2))
    yield "text", np.array(["a", "z\u00f6\u20ac", "\U0001f600"])
    yield "bytes", np.array([b"ab", b"\xc3\xa9", b"\xff"])
    yield "scalar", np.array(2.5)
    yield "empty", np.zeros((0, 4), "f4")


def npy_bytes(array, version=(1, 0)):
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=version)
    return out.getvalue()


def npy():
    for name, array in arrays():
        yield name, npy_bytes(array)
    yield "version2", npy_bytes(np.arange(3.0), (2, 0))
    yield "version3", npy_bytes(np.arange(3.0), (3, 0))
    yield "objects", npy_bytes(np.arange(2.0)).replace(b"'<f8'", b"'|O' ")
    yield "huge", npy_bytes(np.arange(2.0)).replace(b"(2,)", b"(9223372036854775807, 2)")


def npz_bytes(members, method):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in members:
            with file.open(zipfile.ZipInfo(name, DATE), "w", force_zip64=name == "wide.npy") as member:
                member.write(data)
    return out.getvalue()


def npz():
    table = [(f"{name}.npy", npy_bytes(array)) for name, array in arrays()]
    for kind, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        yield f"{kind}-one", with_method(table[1:2], method)
        yield f"{kind}-text", with_method(table[14:16], method)
        yield f"{kind}-all", with_method(table, method)
    yield "wide", npz_bytes([("wide.npy", table[0][1])], zipfile.ZIP_STORED)
    yield "other-member", npz_bytes([("readme.txt", b"hello")] + table[2:3], zipfile.ZIP_STORED)
    yield "twice", npz_bytes(table[:1] * 2, zipfile.ZIP_STORED)
    yield "none", npz_bytes([], zipfile.ZIP_STORED)


def with_method(members, method):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in members:
            info = zipfile.ZipInfo(name, DATE)
            info.compress_type = method
            file.writestr(info, data)
    return out.getvalue()


def csv():
    yield "plain", b"a,b\n1,x\n2,y\n"
    yield "contract", (
        b"id,imu.x,imu.y,audio.0,audio.1,audio.length,imu.present,label,split,group\n"
        b"s1,1.5,-2e3,3,4,2,1,0,train,u1\ns2,,nan,5,6,1,0,1,test,u2\n"
    )
    yield "quotes", b'\xef\xbb\xbfa,"b ""q"""\r\n"1,5","x\ny"\r\n\r\n2,z\r\n'
    yield "missing", b"x,y,z\nNA,null,\n1,2,3\n"
    yield "numbers", b"x\n1e308\n-1e-320\ninf\nnan\n123456789012345678\n0.1\n+5\n5.\n.5\n"
    yield "classes", b"label.cat,label.dog,m.0\n1,0,2\n0,1,3\n"
    yield "wrong-number", b"m.0,m.1\n1,two\n"
    yield "short-row", b"a,b\n1\n"
    yield "open-quote", b'a\n"x\n'
    yield "twins", b"m.1,m.01\n1,2\n"


def safetensors_bytes(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors():
    yield "one", safetensors_bytes({"a": tensor("F32", [2], 0, 8)}, bytes(8))
    yield "many", safetensors_bytes(
        {
            "__metadata__": {"model": "lmf", "config": '{"rank": 4}'},
            "w": tensor("F16", [2, 2], 0, 8),
            "b": tensor("BF16", [2], 8, 12),
            "n": tensor("I64", [], 12, 20),
            "m": tensor("BOOL", [3], 20, 23),
            "e": tensor("U8", [0, 4], 23, 23),
        },
        bytes(range(23)),
    )
    yield "none", safetensors_bytes({}, b"")
    yield "gap", safetensors_bytes({"a": tensor("F32", [1], 4, 8)}, bytes(8))
    yield "overlap", safetensors_bytes(
        {"a": tensor("U8", [4], 0, 4), "b": tensor("U8", [4], 2, 6)}, bytes(6)
    )
    yield "huge", safetensors_bytes({"a": tensor("F64", [2**62, 8], 0, 8)}, bytes(8))
    yield "deep", safetensors_bytes(b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", b"")
    yield "long-header", struct.pack("<Q", 2**63) + b"{}"


def media_frame(row, flags=0, code=0, shape=(), rate=0, payload=b""):
    sides = list(shape) + [0] * (4 - len(shape))
    return struct.pack("<8sIIq4qIIqQ", b"MMFMEDIA", flags, code, row, *sides, len(shape), 0, rate,
                       len(payload)) + payload


def media_frames():
    image = media_frame(0, shape=(3, 2, 4), payload=bytes(range(24)))
    sound = media_frame(1, 2, 1, (5,), 8000, struct.pack("<5f", *range(5)))
    video = media_frame(2, shape=(2, 1, 2, 3), payload=bytes(12))
    failure = media_frame(3, 1, payload=b"the file is empty")
    greeting = media_frame(-1)
    yield "images", b"\0\7" + greeting + image + failure + image
    yield "sound", b"\1\377" + greeting + sound + media_frame(2, 0, 1, (0,), 16000) + failure
    yield "video", b"\2\120" + greeting + video + video
    yield "huge", b"\0\377" + media_frame(0, shape=(3, 2**31, 2**31))
    yield "lie", b"\0\377" + media_frame(0, shape=(3, 9, 9), payload=bytes(7))
    yield "long-message", b"\0\377" + media_frame(0, 1, payload=bytes(256))


MEDIA = {
    "png": (0, "-i testsrc=s=24x16 -frames:v 1"),
    "palette.png": (0, "-i testsrc=s=24x16 -frames:v 1 -pix_fmt pal8"),
    "deep.png": (0, "-i testsrc=s=12x8 -frames:v 1 -pix_fmt rgba64be"),
    "jpg": (0, "-i testsrc=s=24x16 -frames:v 1 -pix_fmt yuvj420p"),
    "grey.jpg": (0, "-i testsrc=s=24x16 -frames:v 1 -pix_fmt gray"),
    "webp": (0, "-i testsrc=s=24x16 -frames:v 1 -c:v libwebp"),
    "lossless.webp": (0, "-i testsrc=s=24x16 -frames:v 1 -c:v libwebp -pix_fmt bgra -lossless 1"),
    "wav": (1, "-i sine=r=8000:d=0.1"),
    "float.wav": (1, "-i sine=r=8000:d=0.05 -c:a pcm_f32le -ac 2"),
    "flac": (1, "-i sine=r=8000:d=0.2"),
    "mp3": (1, "-i sine=r=16000:d=0.2 -b:a 16k"),
    "ogg": (1, "-i sine=r=8000:d=0.2 -c:a libvorbis"),
    "opus": (1, "-i sine=r=48000:d=0.1 -c:a libopus -b:a 8k"),
    "mp4": (2, "-i testsrc=s=32x32:d=0.4 -c:v mpeg4 -bf 2"),
    "h264.mkv": (2, "-i testsrc=s=32x32:d=0.4 -c:v libx264"),
    "webm": (2, "-i testsrc=s=32x32:d=0.4 -c:v libvpx -b:v 50k"),
}


def media_decoder():
    with tempfile.TemporaryDirectory() as folder:
        for name, (kind, arguments) in MEDIA.items():
            path = pathlib.Path(folder) / f"seed.{name}"
            subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "lavfi", *arguments.split(),
                            "-fflags", "+bitexact", "-flags", "+bitexact", str(path)], check=True)
            yield name.replace(".", "-"), bytes([kind]) + path.read_bytes()


def wordpiece():
    for name, text in {
        "words": "a abc b.a \u4e2d\u4e2d",
        "marks": "e\u0301\u0323 \u0344 \u302e\U0001d165 \uac00 \u0130\u03a3",
        "special": "[MASK] x[SEP]y [[PAD]",
        "control": "a\x00\u200b\ufffd\u2028b",
        "long": "a" * 120,
    }.items():
        for length in (2, 9, 64):
            yield f"{name}-{length}", bytes([length]) + text.encode()
    yield "broken", b"\x20a\xff\xc3 \xed\xa0\x80\xf4\x90\x80\x80"


def vocabulary():
    yield "lines", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nun\n##aff\n##able\nb\n"
    yield "returns", b"[UNK]\r\n[CLS]\r\n[SEP]\r\n\r\nb\r\nb\r\n"
    model = {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "b": 1, "##b": 2, "[CLS]": 3, "[SEP]": 4}}
    cls, sep = ({"SpecialToken": {"id": name, "type_id": 0}} for name in ("[CLS]", "[SEP]"))
    first, second = ({"Sequence": {"id": name, "type_id": n}} for n, name in enumerate("AB"))
    whole = {
        "added_tokens": [{"id": 5, "content": "[MASK]", "normalized": False, "special": True}],
        "normalizer": {"type": "BertNormalizer", "lowercase": True, "strip_accents": None},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, first, sep],
            "pair": [cls, first, sep, second, sep],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [3]}, "[SEP]": {"id": "[SEP]", "ids": [4]}},
        },
        "model": model,
    }
    yield "whole", json.dumps(whole).encode()
    processing = {"type": "BertProcessing", "sep": ["[SEP]", 4], "cls": ["[CLS]", 3]}
    yield "processing", json.dumps({**whole, "post_processor": processing}).encode()
    yield "split", json.dumps({"model": model, "pre_tokenizer": {"type": "WhitespaceSplit"}}).encode()
    yield "bpe", json.dumps({**whole, "model": {"type": "BPE", "vocab": {}, "merges": []}}).encode()


def shard_index():
    def index(**files):
        return json.dumps({"metadata": {"total_size": 8}, "weight_map": files}).encode()

    yield "two", index(a="model-1.safetensors", b="model-2.safetensors", c="model-1.safetensors")
    yield "outside", index(a="../model.safetensors")
    yield "number", index(a=3)
    yield "empty", index()


def main():
    for target in (npy, npz, csv, safetensors, wordpiece, vocabulary, shard_index, media_frames, media_decoder):
        folder = CORPUS / f"fuzz_{target.__name__}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in target():
            (folder / f"seed-{name}").write_bytes(data)


if __name__ == "__main__":
    main()
