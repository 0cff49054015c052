#!/usr/bin/env python3
"""Writes tests/models/curves/*.safetensors: ten Adam steps of each fusion model in PyTorch.

    scripts/make_curves.py [MODEL ...]

Needs torch and numpy. Every twin is a function of named parameters, written from the model's
equations; a file holds the starting weights, the inputs, the labels and the ten losses, and the test
tests/models/test_curves.c must follow them.
"""
import json
import pathlib
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "models" / "curves"
STEPS, ROWS, CLASSES, LR, HIDDEN = 10, 8, 3, 1e-2, 8
VECTORS = {"text": (6,), "audio": (5,), "vision": (4,)}
SEQUENCES = {"text": (5, 6), "audio": (5, 5), "vision": (5, 4)}


class Weights:
    """Parameters by state_dict name, drawn when they are first asked for."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.named = {}

    def get(self, name, *shape):
        if name not in self.named:
            bound = 1 / np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else 4)
            drawn = self.rng.uniform(-bound, bound, shape)
            if name.endswith("norm.weight"):
                drawn = drawn + 1
            self.named[name] = torch.tensor(drawn.astype(np.float32), requires_grad=True)
        return self.named[name]

    def linear(self, name, x, outputs):
        return F.linear(x, self.get(name + ".weight", outputs, x.shape[-1]),
                        self.get(name + ".bias", outputs))

    def batch_norm(self, name, x, channels):
        return F.batch_norm(x, None, None, self.get(name + ".weight", channels),
                            self.get(name + ".bias", channels), training=True)

    def lstm(self, name, x, hidden, layers):
        for layer in range(layers):
            w_ih = self.get(f"{name}.weight_ih_l{layer}", 4 * hidden, x.shape[-1])
            w_hh = self.get(f"{name}.weight_hh_l{layer}", 4 * hidden, hidden)
            b_ih = self.get(f"{name}.bias_ih_l{layer}", 4 * hidden)
            b_hh = self.get(f"{name}.bias_hh_l{layer}", 4 * hidden)
            h = c = torch.zeros(len(x), hidden)
            steps = []
            for t in range(x.shape[1]):
                i, f, g, o = (F.linear(x[:, t], w_ih, b_ih) + F.linear(h, w_hh, b_hh)).chunk(4, 1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
                steps.append(h)
            x = torch.stack(steps, 1)
        return h


# ---- What models are made of -------------------------------------------------------------------


def mlp(w, name, x, width):
    return F.relu(w.linear(name + ".linear_2", F.relu(w.linear(name + ".linear_1", x, width)), width))


def encoded(w, inputs):
    return [mlp(w, name, x, HIDDEN) for name, x in inputs.items()]


def head(w, x):
    return w.linear("head.out", F.relu(w.linear("head.hidden", x, HIDDEN)), CLASSES)


def signal_subnet(w, name, x, width):
    x = w.batch_norm(name + ".norm", x, x.shape[1])
    for layer in (1, 2, 3):
        x = F.relu(w.linear(f"{name}.linear_{layer}", x, width))
    return x


def subnets(w, inputs):
    """Audio, vision, text: the order of the papers. Widths of SUBNETS below."""
    return [signal_subnet(w, "audio_subnet", inputs["audio"], 3),
            signal_subnet(w, "video_subnet", inputs["vision"], 4),
            mlp(w, "text_subnet", inputs["text"], 5)]


def post_fusion(w, x):
    x = F.relu(w.linear("post_fusion_layer_1", x, HIDDEN))
    x = F.relu(w.linear("post_fusion_layer_2", x, HIDDEN))
    return w.linear("post_fusion_layer_3", x, CLASSES)


def with_one(z):
    return torch.cat([torch.ones(len(z), 1), z], 1)


# ---- The models --------------------------------------------------------------------------------


def early_concat(w, inputs):
    return head(w, torch.cat(list(inputs.values()), 1))


def joint_concat(w, inputs):
    return head(w, torch.cat(encoded(w, inputs), 1))


def weighted(w, inputs):
    stack = torch.stack([F.layer_norm(f, (HIDDEN,)) for f in encoded(w, inputs)], 1)
    alpha = w.get("fusion.alpha", 1, len(inputs))
    return head(w, (torch.softmax(alpha, 1) @ stack).squeeze(1))


def lf_dnn(w, inputs):
    return post_fusion(w, torch.cat(subnets(w, inputs), 1))


def tfn(w, inputs):
    audio, vision, text = (with_one(z) for z in subnets(w, inputs))
    return post_fusion(w, torch.einsum("ba,bv,bt->bavt", audio, vision, text).flatten(1))


def lmf(w, inputs):
    rank, product = 2, 1
    for name, z in zip(("audio", "video", "text"), subnets(w, inputs)):
        z = with_one(z)
        factor = w.get(name + "_factor", rank, z.shape[1], CLASSES)
        product = product * torch.einsum("bd,rdk->rbk", z, factor)
    weights = w.get("fusion_weights", 1, rank)
    return torch.einsum("or,rbk->bk", weights, product) + w.get("fusion_bias", 1, CLASSES)


def ef_lstm(w, inputs):
    x = torch.cat(list(inputs.values()), 2)
    h = w.lstm("lstm", w.batch_norm("norm", x, x.shape[1]), HIDDEN, 2)
    return w.linear("out", F.relu(w.linear("linear", h, HIDDEN)), CLASSES)


ENCODED = {"hidden": HIDDEN, "dropout": 0}
SUBNETS = {"hidden_dims": [10, 3, 4], "text_out": 5, "dropouts": 0}
TWINS = {
    "early-concat": (early_concat, VECTORS, ENCODED),
    "joint-concat": (joint_concat, VECTORS, ENCODED),
    "weighted": (weighted, VECTORS, ENCODED),
    "lf-dnn": (lf_dnn, VECTORS, {**SUBNETS, "post_fusion_dim": HIDDEN}),
    "tfn": (tfn, VECTORS, {**SUBNETS, "post_fusion_dim": HIDDEN}),
    "lmf": (lmf, VECTORS, {**SUBNETS, "rank": 2}),
    "ef-lstm": (ef_lstm, SEQUENCES, {"hidden_dims": HIDDEN, "num_layers": 2, "dropout": 0}),
}


# ---- Training and writing ----------------------------------------------------------------------


def train(twin, shapes, seed):
    rng = np.random.default_rng(seed)
    n = STEPS * ROWS
    inputs = {k: rng.standard_normal((n, *s)).astype(np.float32) for k, s in shapes.items()}
    labels = rng.integers(0, CLASSES, n)
    weights = Weights(seed)

    def batch(step):
        rows = slice(step * ROWS, (step + 1) * ROWS)
        return {k: torch.from_numpy(v[rows]) for k, v in inputs.items()}, torch.from_numpy(labels[rows])

    twin(weights, batch(0)[0])  # draws the parameters
    start = {k: v.detach().numpy().copy() for k, v in weights.named.items()}
    optimizer = torch.optim.Adam(weights.named.values(), lr=LR)
    losses = []
    for step in range(STEPS):
        x, y = batch(step)
        loss = F.cross_entropy(twin(weights, x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    tensors = {"weight." + k: v for k, v in start.items()}
    tensors.update({"input." + k: v for k, v in inputs.items()})
    tensors["label"], tensors["losses"] = labels.astype(np.int64), np.array(losses)
    return tensors


def write(path, tensors, metadata):
    kinds = {"float32": "F32", "float64": "F64", "int64": "I64"}
    header, at = {"__metadata__": metadata}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": kinds[value.dtype.name], "shape": list(value.shape),
                        "data_offsets": [at, at + value.nbytes]}
        at += value.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(v.tobytes() for v in tensors.values()))


def main():
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or TWINS:
        twin, shapes, config = TWINS[name]
        config = {**config, "train_mode": "classification", "num_classes": CLASSES}
        metadata = {"model": name, "config": json.dumps(config), "lr": str(LR), "steps": str(STEPS),
                    "source": f"PyTorch {torch.__version__}"}
        tensors = train(twin, shapes, seed=1 + list(TWINS).index(name))
        write(FOLDER / f"{name}.safetensors", tensors, metadata)
        print(f"{name}: loss {tensors['losses'][0]:.4f} to {tensors['losses'][-1]:.4f}")


if __name__ == "__main__":
    main()
