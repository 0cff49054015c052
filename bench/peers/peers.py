"""The models of the benchmark in PyTorch, and a worker that times them on request.

Structure, widths, dropout and loss are those of the models in src/models/ at the sizes that
bench/bench_models.c lists; those at the sizes of their papers stand in paper_models.py. Requests are
those of worker.py; the variant is

    eager        the model as it is, torch.optim.Adam
    fused        the model as it is, Adam(fused=True)
    compile      torch.compile(model), Adam
    compile-all  torch.compile(model), and the optimizer's step compiled as well
"""

import functools
import typing

import torch
import torch._dynamo
import torch.nn.functional as F
from paper_models import GMU, MCAN, MFB, MISA, Encoder, GATv2, Head, MulT
from torch import nn

import worker

BATCH, MCAN_BATCH = 32, 8
STEPS = 50
NAMES = ("text", "audio", "vision")
POOLED = {"text": 768, "audio": 74, "vision": 35}
SEQUENCE = {"text": 768, "audio": 5, "vision": 20}
POOLED_BATCHES, SEQUENCE_BATCHES = 16, 4


class Encoded(nn.Module):
    """One encoder a modality and a head; subclasses say how features are joined."""

    def __init__(self, joined, hidden=64, dropout=0.2):
        super().__init__()
        self.text = Encoder(POOLED["text"], hidden, dropout)
        self.audio = Encoder(POOLED["audio"], hidden, dropout)
        self.vision = Encoder(POOLED["vision"], hidden, dropout)
        self.head = Head(joined, hidden, dropout)

    def features(self, text, audio, vision):
        return [self.text(text), self.audio(audio), self.vision(vision)]


class JointConcat(Encoded):
    def __init__(self):
        super().__init__(3 * 64)

    def forward(self, text, audio, vision):
        return self.head(torch.cat(self.features(text, audio, vision), dim=1))


class Weighted(Encoded):
    def __init__(self):
        super().__init__(64)
        self.alpha = nn.Parameter(torch.zeros(1, 3))

    def forward(self, text, audio, vision):
        rows = [F.layer_norm(f, (64,)) for f in self.features(text, audio, vision)]
        weights = torch.softmax(self.alpha, dim=1)
        return self.head(torch.matmul(weights, torch.stack(rows, dim=1)).squeeze(1))


class Only(nn.Module):
    def __init__(self, name, hidden=64, dropout=0.2):
        super().__init__()
        self.encoder = Encoder(POOLED[name], hidden, dropout)
        self.head = Head(hidden, hidden, dropout)

    def forward(self, x):
        return self.head(self.encoder(x))


class LateMean(nn.Module):
    """Prediction of the late family: the mean of three finished models."""

    def __init__(self):
        super().__init__()
        self.text, self.audio, self.vision = Only("text"), Only("audio"), Only("vision")

    def forward(self, text, audio, vision):
        return (self.text(text) + self.audio(audio) + self.vision(vision)) / 3


class SubNet(nn.Module):
    def __init__(self, inputs, hidden, dropout):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(inputs), nn.Dropout(dropout)
        self.linear_1, self.linear_2 = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)
        self.linear_3 = nn.Linear(hidden, hidden)

    def forward(self, x):
        if x.dim() == 3:
            x = x.mean(dim=1)
        x = F.relu(self.linear_1(self.drop(self.norm(x))))
        return F.relu(self.linear_3(F.relu(self.linear_2(x))))


class TextSubNet(nn.Module):
    def __init__(self, inputs, hidden, out, dropout):
        super().__init__()
        self.rnn = nn.LSTM(inputs, hidden, batch_first=True)
        self.dropout, self.linear_1 = nn.Dropout(dropout), nn.Linear(hidden, out)

    def forward(self, x):
        return self.linear_1(self.dropout(self.rnn(x)[1][0][-1]))


def with_one(z):
    return torch.cat([torch.ones_like(z[:, :1]), z], dim=1)


class LMF(nn.Module):
    def __init__(self, sequence):
        super().__init__()
        widths = SEQUENCE if sequence else POOLED
        rank = 3 if sequence else 4
        self.audio = SubNet(widths["audio"], 16, 0.3)
        self.vision = SubNet(widths["vision"], 128, 0.3)
        if sequence:
            self.text = TextSubNet(widths["text"], 128, 64, 0.3)
        else:
            self.text = Encoder(widths["text"], 64, 0.3)
        self.audio_factor = nn.Parameter(torch.empty(rank, 17, 1))
        self.video_factor = nn.Parameter(torch.empty(rank, 129, 1))
        self.text_factor = nn.Parameter(torch.empty(rank, 65, 1))
        self.fusion_weights = nn.Parameter(torch.empty(1, rank))
        self.fusion_bias = nn.Parameter(torch.zeros(1, 1))
        for p in (self.audio_factor, self.video_factor, self.text_factor, self.fusion_weights):
            nn.init.xavier_normal_(p)

    def forward(self, text, audio, vision):
        product = torch.matmul(with_one(self.audio(audio)), self.audio_factor)
        product = product * torch.matmul(with_one(self.vision(vision)), self.video_factor)
        product = product * torch.matmul(with_one(self.text(text)), self.text_factor)
        y = torch.matmul(self.fusion_weights, product.permute(1, 0, 2)).squeeze(1)
        return y + self.fusion_bias


class TFN(nn.Module):
    def __init__(self):
        super().__init__()
        self.audio = SubNet(POOLED["audio"], 32, 0.3)
        self.vision = SubNet(POOLED["vision"], 32, 0.3)
        self.text = Encoder(POOLED["text"], 64, 0.3)
        self.dropout = nn.Dropout(0.5)
        self.layer_1 = nn.Linear(33 * 33 * 65, 64)
        self.layer_2, self.layer_3 = nn.Linear(64, 64), nn.Linear(64, 1)

    def forward(self, text, audio, vision):
        a, v = with_one(self.audio(audio)), with_one(self.vision(vision))
        t = with_one(self.text(text))
        av = torch.bmm(a.unsqueeze(2), v.unsqueeze(1)).view(len(a), -1)
        z = torch.bmm(av.unsqueeze(2), t.unsqueeze(1)).view(len(a), -1)
        y = F.relu(self.layer_2(F.relu(self.layer_1(self.dropout(z)))))
        return torch.sigmoid(self.layer_3(y)) * 6 - 3


class EfLstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(STEPS)
        self.lstm = nn.LSTM(sum(SEQUENCE.values()), 128, 4, batch_first=True, dropout=0.5)
        self.dropout = nn.Dropout(0.5)
        self.linear, self.out = nn.Linear(128, 128), nn.Linear(128, 1)

    def forward(self, text, audio, vision):
        x = self.norm(torch.cat([text, audio, vision], dim=-1))
        x = self.dropout(self.lstm(x)[1][0][-1])
        return self.out(self.dropout(F.relu(self.linear(x))))


# ---- What is measured ----------------------------------------------------------------------


class Tokens(typing.NamedTuple):
    """An input of words, of which 0 is padding."""

    steps: int
    vocabulary: int


class Work(typing.NamedTuple):
    build: typing.Callable
    inputs: tuple  # shapes of one sample, or Tokens
    loss: str = "l1"
    classes: int = 0
    batch: int = BATCH


POOLED_INPUTS = tuple((POOLED[n],) for n in NAMES)
SEQUENCE_INPUTS = tuple((STEPS, SEQUENCE[n]) for n in NAMES)
MODELS = {
    "joint-concat": Work(JointConcat, POOLED_INPUTS),
    "lmf": Work(lambda: LMF(False), POOLED_INPUTS),
    "weighted": Work(Weighted, POOLED_INPUTS),
    "late-mean": Work(LateMean, POOLED_INPUTS),
    "tfn": Work(TFN, POOLED_INPUTS),
    "lmf-sequence": Work(lambda: LMF(True), SEQUENCE_INPUTS),
    "ef-lstm": Work(EfLstm, SEQUENCE_INPUTS),
    "gatv2": Work(GATv2, POOLED_INPUTS),
    "gmu": Work(GMU, ((4096,), (300,)), "binary", 23),
    "misa": Work(MISA, SEQUENCE_INPUTS, "mse"),
    "mult": Work(MulT, SEQUENCE_INPUTS),
    "mfb": Work(MFB, ((2048,), (1024,)), "cross-entropy", 3000),
    "mcan": Work(MCAN, ((100, 2048), Tokens(14, 20000)), "binary", 3129, MCAN_BATCH),
}
LOSSES = {
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "cross-entropy": F.cross_entropy,
    "binary": F.binary_cross_entropy_with_logits,
}


def draw_input(given, rows):
    if isinstance(given, Tokens):
        return torch.randint(1, given.vocabulary, (rows, given.steps))
    return torch.randn((rows, *given))


def draw_target(work):
    if work.loss == "cross-entropy":
        return torch.randint(0, work.classes, (work.batch,))
    if work.loss == "binary":
        return (torch.randn(work.batch, work.classes) > 1).float()
    return torch.randn(work.batch, 1)


def loss_of(criterion, output, target):
    """The task's loss and what the model adds to it."""
    if isinstance(output, tuple):
        return criterion(output[0], target) + output[1]
    return criterion(output, target)


class Bench:
    """One model in one variant with its data."""

    def __init__(self, name, variant):
        work = MODELS[name]
        torch.manual_seed(1)
        self.compiled = variant.startswith("compile")
        self.whole = work.build()
        self.loss = functools.partial(loss_of, LOSSES[work.loss])
        n_batches = SEQUENCE_BATCHES if len(work.inputs[0]) == 2 else POOLED_BATCHES
        self.batches = [
            ([draw_input(given, work.batch) for given in work.inputs], draw_target(work))
            for _ in range(n_batches)
        ]
        if name == "late-mean":  # each unimodal model is trained by itself
            modules = [(getattr(self.whole, n), (i,)) for i, n in enumerate(NAMES)]
        else:
            modules = [(self.whole, tuple(range(len(work.inputs))))]
        self.parts = []
        for module, places in modules:
            optimizer = torch.optim.Adam(module.parameters(), fused=variant == "fused" or None)
            step = optimizer.step
            if variant == "compile-all":
                step = torch.compile(optimizer.step)
            run = torch.compile(module) if self.compiled else module
            self.parts.append((module, run, places, optimizer, step))
        self.samples = [[x[:1].clone() for x in inputs] for inputs, _ in self.batches]
        self.predictor = torch.compile(self.whole) if self.compiled else self.whole
        self.step = 0

    def train(self, n):
        self.whole.train()
        for i in range(n):
            inputs, target = self.batches[(self.step + i) % len(self.batches)]
            for _, run, places, optimizer, update in self.parts:
                optimizer.zero_grad(set_to_none=True)
                loss = self.loss(run(*[inputs[p] for p in places]), target)
                loss.backward()
                update()
        self.step += n
        return loss

    def latency(self, n):
        self.whole.eval()
        with torch.inference_mode():
            for i in range(n):
                y = self.predictor(*self.samples[(self.step + i) % len(self.samples)])
        self.step += n
        return y

    def parameters(self):
        return sum(p.numel() for p in self.whole.parameters())


def predict_once(name):
    """What a program that serves one prediction does after its start."""
    work = MODELS[name]
    model = work.build().eval()
    with torch.inference_mode():
        print(model(*[draw_input(given, 1) for given in work.inputs]).item())


def main():
    # One process holds all models: without this the compiler gives up after eight optimizers.
    torch._dynamo.config.recompile_limit = 256
    worker.serve(Bench)


if __name__ == "__main__":
    main()
