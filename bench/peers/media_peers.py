#!/usr/bin/env python3
"""Compares what mmfuse-read-media decodes with PIL (pictures) and scipy (resampling).

    media_peers.py PROGRAM     needs PIL, numpy, scipy and the command ffmpeg

Prints one line a case: the largest and the mean difference, of pictures in levels of 255.
"""
import io
import math
import os
import struct
import subprocess
import sys
import tempfile

import numpy
from PIL import Image, ImageOps

HEADER = struct.Struct("<8sIIq4qIIqQ")


def decode(program, paths, *options):
    """Arrays, or messages, of the files."""
    requests = "".join(f"{i} {p}\n" for i, p in enumerate(paths)).encode()
    out = subprocess.run([program, "--serve", *options], input=requests, stdout=subprocess.PIPE, check=True).stdout
    items, at = [], 0
    while at < len(out):
        _, flags, code, row, *rest = HEADER.unpack_from(out, at)
        shape, n_dims, rate, n_bytes = rest[:4], rest[4], rest[6], rest[7]
        payload = out[at + HEADER.size:at + HEADER.size + n_bytes]
        at += HEADER.size + n_bytes
        if row < 0:
            continue
        if flags & 1:
            items.append(payload.decode())
        else:
            items.append(numpy.frombuffer(payload, ["u1", "<f4"][code]).reshape(shape[:n_dims]))
    return items


def scene(width, height, seed=0):
    """A picture with edges, slopes and some noise."""
    random = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[0:height, 0:width]
    planes = [127 + 100 * numpy.sin(x / (7 + 5 * c) + c) * numpy.cos(y / (11 - 2 * c)) for c in range(3)]
    picture = numpy.stack(planes, -1)
    picture[height // 4:height // 2, width // 3:width // 2] = (250, 20, 60)
    picture += random.normal(0, 4, picture.shape)
    return Image.fromarray(picture.clip(0, 255).astype("u1"))


def torch_fit(image, short, crop):
    """Resize(short) and CenterCrop(crop) as torchvision does them on PIL images."""
    w, h = image.size
    size = (short, int(short * h / w)) if w <= h else (int(short * w / h), short)
    image = image.resize(size, Image.BILINEAR)
    w, h = image.size
    top, left = int(round((h - crop) / 2)), int(round((w - crop) / 2))
    return image.crop((left, top, left + crop, top + crop))


def show(name, ours, theirs):
    if isinstance(ours, str):
        print(f"{name:34s} {ours}")
        return
    theirs = numpy.asarray(theirs)
    theirs = theirs.transpose(2, 0, 1) if theirs.ndim == 3 else theirs[None]
    if ours.shape != theirs.shape:
        print(f"{name:34s} shape {ours.shape}, not {theirs.shape}")
        return
    d = numpy.abs(ours.astype(int) - theirs.astype(int))
    print(f"{name:34s} max {d.max():3d}  mean {d.mean():.4f}")


def pictures(program, folder):
    rgb = scene(333, 250)
    cases = []

    def add(name, image, ending, **options):
        path = os.path.join(folder, f"{len(cases)}{ending}")
        image.save(path, **options)
        cases.append((name, path))

    add("PNG RGB", rgb, ".png")
    add("PNG grey", rgb.convert("L"), ".png")
    add("PNG palette", rgb.quantize(64), ".png")
    add("PNG 1 bit", rgb.convert("1"), ".png")
    rgba = rgb.copy()
    rgba.putalpha(rgb.convert("L"))
    add("PNG RGBA", rgba, ".png")
    add("PNG grey and alpha", rgba.convert("LA"), ".png")
    add("WebP lossless", rgb, ".webp", lossless=True)
    add("WebP lossy", rgb, ".webp", quality=90)
    add("WebP lossy with alpha", rgba, ".webp", quality=90)
    for s in (0, 1, 2):
        add(f"JPEG 4:{['4:4', '2:2', '2:0'][s]}", rgb, ".jpg", quality=92, subsampling=s)
    add("JPEG progressive", rgb, ".jpg", quality=92, progressive=True)
    add("JPEG grey", rgb.convert("L"), ".jpg", quality=92)
    add("JPEG CMYK", rgb.convert("CMYK"), ".jpg", quality=92)
    add("PNG 1 x 1", rgb.crop((5, 5, 6, 6)), ".png")
    add("JPEG 1 x 1", rgb.crop((5, 5, 6, 6)), ".jpg", quality=92)
    add("JPEG 3 x 5, 4:2:0", rgb.crop((5, 5, 8, 10)), ".jpg", quality=92, subsampling=2)
    exif = Image.Exif()
    for o in range(1, 9):
        exif[0x0112] = o
        add(f"PNG EXIF orientation {o}", rgb, ".png", exif=exif)
        add(f"JPEG EXIF orientation {o}", rgb, ".jpg", quality=92, exif=exif)
        add(f"WebP EXIF orientation {o}", rgb, ".webp", lossless=True, exif=exif)
    names, paths = zip(*cases)
    upright = [ImageOps.exif_transpose(Image.open(p)) for p in paths]
    for name, ours, theirs in zip(names, decode(program, paths), upright):
        show(name, ours, theirs.convert("RGB"))
    for name, ours, theirs in zip(names[:18], decode(program, paths[:18], "channels=1"), upright):
        show(name + ", to grey", ours, theirs.convert("RGB").convert("L"))

    large = scene(1600, 1203, 1)
    fits = []
    for ending, options in ((".png", {}), (".jpg", {"quality": 92, "subsampling": 0}),
                            (".jpg", {"quality": 92, "subsampling": 2})):
        path = os.path.join(folder, f"large{len(fits)}{ending}")
        large.save(path, **options)
        fits.append(path)
    for short, crop in ((256, 224), (1500, 1400), (31, 29), (224, 260)):
        ours = decode(program, fits, f"short_side={short}", f"crop_h={crop}", f"crop_w={crop}")
        for path, one, kind in zip(fits, ours, ("PNG", "JPEG 4:4:4", "JPEG 4:2:0")):
            show(f"{kind} to {short}, crop {crop}", one, torch_fit(Image.open(path).convert("RGB"), short, crop))


def wav(path, samples, rate):
    import wave
    with wave.open(path, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).round().astype("<i2").tobytes())


def sound(program, folder):
    from scipy.signal import resample_poly
    for rate, to in ((44100, 16000), (48000, 16000), (8000, 16000), (22050, 16000)):
        t = numpy.arange(2 * rate) / rate
        top = 0.4 * min(rate, to)
        sweep = 0.6 * numpy.sin(2 * math.pi * (100 * t + (top - 100) / 4 * t * t))
        path = os.path.join(folder, f"{rate}.wav")
        wav(path, numpy.stack([sweep, 0.5 * sweep], 1), rate)
        ours = decode(program, [path], "kind=audio", f"sample_rate={to}")[0]
        t = numpy.arange(len(ours)) / to
        exact = 0.75 * 0.6 * numpy.sin(2 * math.pi * (100 * t + (top - 100) / 4 * t * t))
        g = math.gcd(rate, to)
        theirs = resample_poly(0.75 * sweep, to // g, rate // g)[:len(ours)]
        inside = slice(to // 20, -to // 20)

        def error(x):
            return math.sqrt(numpy.mean((x[inside] - exact[:len(x)][inside]) ** 2) / numpy.mean(exact[inside] ** 2))

        print(f"sweep {rate} -> {to} Hz: {len(ours)} samples ({math.ceil(2 * rate * to / rate)} wanted), "
              f"relative error {error(ours):.2e}; scipy's resample_poly {error(theirs):.2e}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        pictures(sys.argv[1], folder)
        sound(sys.argv[1], folder)


if __name__ == "__main__":
    main()
