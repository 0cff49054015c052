#!/usr/bin/env python3
"""Writes tests/data/spectrogram_numbers.h: what librosa makes of a recording under several settings.

    pip install librosa; scripts/make_spectrogram_numbers.py > tests/data/spectrogram_numbers.h

The recording is a formula (test_spectrogram.c has it too): a rising tone that fades, over weak noise.
"""
import warnings

import librosa
import numpy as np

warnings.filterwarnings("ignore")

N_VALUES = 16

# options of mmfuse's names, samples of the recording
CASES = [
    ("librosa's defaults", "", 11025),
    ("eight kilohertz, short windows", "sample_rate=8000 n_fft=256 hop_length=128 n_mels=32", 4000),
    ("as Whisper cuts", "sample_rate=16000 n_fft=400 hop_length=160 n_mels=80 output=log amin=1e-5", 8000),
    ("HTK, magnitudes", "sample_rate=16000 n_fft=512 win_length=400 hop_length=160 n_mels=40 htk=true norm=none power=1 "
     "output=log amin=1e-6", 8000),
    ("energies", "sample_rate=8000 n_fft=256 hop_length=80 n_mels=20 output=power", 2000),
    ("not centred", "sample_rate=16000 n_fft=512 hop_length=200 n_mels=26 center=false", 5000),
    ("mirrored", "sample_rate=16000 n_fft=512 hop_length=128 n_mels=26 pad_mode=reflect", 3000),
    ("mirrored often", "sample_rate=16000 n_fft=1024 hop_length=64 n_mels=26 pad_mode=reflect output=power", 100),
    ("edges, boxcar, odd factors", "sample_rate=8000 n_fft=462 hop_length=231 window=boxcar pad_mode=edge n_mels=24",
     3000),
    ("odd length, hamming", "sample_rate=8000 n_fft=401 win_length=301 hop_length=100 window=hamming n_mels=24", 3000),
    ("blackman, no mel", "sample_rate=8000 n_fft=128 hop_length=64 window=blackman n_mels=0 output=power", 1500),
    ("telephone band, another power", "sample_rate=16000 n_fft=512 hop_length=256 n_mels=20 fmin=300 fmax=3400 "
     "power=1.5 output=power", 4000),
    ("below the loudest", "sample_rate=8000 n_fft=256 hop_length=128 n_mels=32 ref=0 top_db=40", 4000),
    ("no limit below", "sample_rate=8000 n_fft=256 hop_length=128 n_mels=32 top_db=-1", 4000),
    ("coefficients", "n_mfcc=20", 11025),
    ("coefficients, lifted", "sample_rate=16000 n_fft=512 hop_length=160 n_mels=40 htk=true n_mfcc=13 lifter=22", 8000),
    ("coefficients, plain sums", "sample_rate=8000 n_fft=256 hop_length=128 n_mels=32 n_mfcc=12 dct_ortho=false", 4000),
    ("one sample", "sample_rate=8000 n_fft=256 hop_length=128 n_mels=16", 1),
    ("one sample, mirrored", "sample_rate=8000 n_fft=256 hop_length=128 n_mels=16 pad_mode=reflect", 1),
]


def recording(n):
    """Fades so slowly that a case's last frames are far above rounding."""
    i = np.arange(n, dtype=np.int64)
    t = i / 8000.0
    noise = (i * 7919 + i * i * 104729) % 65536 / 65536.0 - 0.5
    return (0.5 * np.exp(-2 * t) * np.sin(2 * np.pi * (180 + 900 * t) * t) + 0.02 * noise).astype(np.float32)


def features(options, samples):
    o = {"sample_rate": 22050, "n_fft": 2048, "hop_length": 512, "win_length": None, "window": "hann", "center": True,
         "pad_mode": "constant", "power": 2.0, "n_mels": 128, "fmin": 0.0, "fmax": None, "htk": False, "norm": "slaney",
         "output": "db", "amin": 1e-10, "ref": 1.0, "top_db": 80.0, "n_mfcc": 0, "dct_ortho": True, "lifter": 0.0}
    for pair in options.split():
        name, value = pair.split("=")
        kind = type(o[name]) if o[name] is not None else int
        o[name] = value == "true" if kind is bool else kind(value)
    if o["window"] == "boxcar":
        o["window"] = "ones"
    cut = {k: o[k] for k in ("n_fft", "hop_length", "win_length", "window", "center", "pad_mode", "power")}
    if o["n_mels"]:
        s = librosa.feature.melspectrogram(
            y=samples, sr=o["sample_rate"], n_mels=o["n_mels"], fmin=o["fmin"], fmax=o["fmax"], htk=o["htk"],
            norm=None if o["norm"] == "none" else o["norm"], **cut)
    else:
        power = cut.pop("power")
        s = np.abs(librosa.stft(samples, **cut)) ** power
    if o["output"] == "db":
        s = librosa.power_to_db(s, ref=o["ref"] if o["ref"] > 0 else np.max, amin=o["amin"],
                                top_db=None if o["top_db"] < 0 else o["top_db"])
    elif o["output"] == "log":
        s = np.log(np.maximum(o["amin"], s))
    if o["n_mfcc"]:
        s = librosa.feature.mfcc(S=s, n_mfcc=o["n_mfcc"], dct_type=2, norm="ortho" if o["dct_ortho"] else None,
                                 lifter=o["lifter"])
    return s.T


def main():
    print("/* Written by scripts/make_spectrogram_numbers.py with librosa %s: features of the recording of\n"
          " * test_spectrogram.c, at %d places spread evenly over frames x width. */" % (librosa.__version__, N_VALUES))
    print("static const spectrogram_case cases[] = {")
    for title, options, n in CASES:
        s = features(options, recording(n))
        flat = s.reshape(-1)
        places = [k * (flat.size - 1) // (N_VALUES - 1) for k in range(N_VALUES)]
        print('    {"%s",\n     "%s",\n     %d, %d, %d, %.8g, %.8g,\n     {%s}},' % (
            title, options, n, s.shape[0], s.shape[1], float(np.abs(flat).max()), float(flat.mean(dtype=np.float64)),
            ", ".join("%.8g" % flat[p] for p in places)))
    print("};")


main()
