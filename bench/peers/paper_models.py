"""Models of the benchmark at the sizes of their papers: the structure of src/models/ and src/fusion/.

Written as a PyTorch user who wants speed would: projections that read the same rows are packed,
what is the same for every modality runs on stacked codes, attention is F.scaled_dot_product_attention,
masks and positions are buffers.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class Head(nn.Module):
    """src/models/parts.c"""

    def __init__(self, inputs, hidden, dropout, outputs=1):
        super().__init__()
        self.hidden, self.out = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return self.out(self.dropout(F.relu(self.hidden(self.dropout(x)))))


class Encoder(nn.Module):
    """src/encoders/mlp.c"""

    def __init__(self, inputs, width, dropout):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(inputs, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x = F.relu(self.linear_1(self.dropout(x)))
        return F.relu(self.linear_2(self.dropout(x)))


# ---- Graph and gate ------------------------------------------------------------------------


class GATv2Layer(nn.Module):
    """Over complete graphs of few nodes, with a weight of its own for the node itself."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.part = heads, width // heads
        self.both = nn.Linear(width, 2 * width)  # neighbour, centre
        self.att = nn.Parameter(torch.empty(heads, 1, 1, self.part))
        self.bias = nn.Parameter(torch.zeros(width))
        self.root = nn.Linear(width, width, bias=False)
        nn.init.xavier_uniform_(self.att)

    def forward(self, h):
        rows, nodes, width = h.shape
        both = self.both(h).view(rows, nodes, 2, self.heads, self.part).permute(2, 0, 3, 1, 4)
        left, right = both.unbind(0)  # (B, K, N, F)
        pairs = F.leaky_relu(left.unsqueeze(2) + right.unsqueeze(3), 0.2)
        weights = torch.softmax((pairs * self.att).sum(-1), dim=-1)
        y = torch.matmul(weights, left).transpose(1, 2).reshape(rows, nodes, width)
        return y + self.bias + self.root(h)


class GATv2(nn.Module):
    """src/models/modality_graph.c"""

    def __init__(self, widths=(768, 74, 35), hidden=64, heads=4, dropout=0.2):
        super().__init__()
        self.encoders = nn.ModuleList(Encoder(w, hidden, dropout) for w in widths)
        self.project = nn.ModuleList(nn.Linear(hidden, hidden) for _ in widths)
        self.kind = nn.Parameter(torch.randn(len(widths), hidden) * 0.02)
        self.layer_1, self.layer_2 = GATv2Layer(hidden, heads), GATv2Layer(hidden, heads)
        self.dropout = nn.Dropout(dropout)
        self.head = Head(len(widths) * hidden, hidden, dropout)

    def forward(self, *inputs):
        nodes = [F.relu(p(e(x))) for p, e, x in zip(self.project, self.encoders, inputs)]
        h = torch.stack(nodes, dim=1) + self.kind
        h = self.dropout(F.elu(self.layer_1(h)))
        return self.head(F.elu(self.layer_2(h)).flatten(1))


class GMU(nn.Module):
    """src/fusion/gmu.c in its released form, at the sizes of MM-IMDb, before a head."""

    def __init__(self, vision=4096, text=300, hidden=512, classes=23, dropout=0.5):
        super().__init__()
        self.norm_v, self.norm_t = nn.BatchNorm1d(vision, 1e-4), nn.BatchNorm1d(text, 1e-4)
        self.linear_v = nn.Linear(vision, hidden, bias=False)
        self.linear_t = nn.Linear(text, hidden, bias=False)
        self.gate = nn.Linear(2 * hidden, hidden, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.head = Head(hidden, hidden, dropout, classes)

    def forward(self, vision, text):
        v = self.linear_v(self.norm_v(self.dropout(vision)))
        t = self.linear_t(self.norm_t(self.dropout(text)))
        z = torch.sigmoid(self.gate(torch.cat([v, t], dim=1)))
        return self.head(torch.lerp(torch.tanh(t), torch.tanh(v), z))


# ---- Bilinear pooling ----------------------------------------------------------------------


class MFB(nn.Module):
    """src/fusion/mfb.c with power normalisation, an output layer and a head."""

    def __init__(self, image=2048, question=1024, width=1000, factor=5, classes=3000, dropout=0.1):
        super().__init__()
        self.factor = factor
        self.linear_0 = nn.Linear(image, width * factor)
        self.linear_1 = nn.Linear(question, width * factor)
        self.linear_out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.head = Head(width, width, dropout, classes)

    def forward(self, image, question):
        p = self.linear_0(self.dropout(image)) * self.linear_1(self.dropout(question))
        p = self.dropout(p)
        z = p.view(len(p), -1, self.factor).sum(dim=2)
        z = F.normalize(torch.sqrt(F.relu(z)) - torch.sqrt(F.relu(-z)), dim=1)
        return self.head(F.relu(self.linear_out(z)))


# ---- MISA ----------------------------------------------------------------------------------

PAIRS = ((0, 0, 1), (1, 2, 2))


class LstmPair(nn.Module):
    """Two bidirectional layers with a norm between; the final states of both."""

    def __init__(self, width):
        super().__init__()
        self.rnn_1 = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.rnn_2 = nn.LSTM(2 * width, width, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(2 * width)

    def forward(self, x):
        sequence, (first, _) = self.rnn_1(x)
        second = self.rnn_2(self.norm(sequence))[1][0]
        return torch.cat([first[0], second[0], first[1], second[1]], dim=1)


class MISA(nn.Module):
    """src/models/misa.c: the text is the mean of its steps, audio and vision go through LSTMs."""

    def __init__(self, widths=(768, 20, 5), hidden=128, dropout=0.2, sim=0.3, diff=0.1, recon=1.0):
        super().__init__()
        text, vision, audio = widths
        self.weights = sim, diff, recon
        self.vision, self.audio = LstmPair(vision), LstmPair(audio)
        inputs = (text, 4 * vision, 4 * audio)
        self.project = nn.ModuleList(
            nn.Sequential(nn.Linear(w, hidden), nn.ReLU(), nn.LayerNorm(hidden)) for w in inputs
        )
        self.private = nn.ModuleList(nn.Linear(hidden, hidden) for _ in inputs)
        self.recon = nn.ModuleList(nn.Linear(hidden, hidden) for _ in inputs)
        self.shared = nn.Linear(hidden, hidden)
        self.transformer = nn.TransformerEncoderLayer(hidden, 2, 2048, 0.1, batch_first=True)
        self.fusion_1 = nn.Linear(6 * hidden, 3 * hidden)
        self.fusion_3 = nn.Linear(3 * hidden, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, text, audio, vision):
        inputs = self.dropout(text.mean(dim=1)), self.vision(vision), self.audio(audio)
        rows = [project(x) for project, x in zip(self.project, inputs)]
        u = torch.stack(rows)  # (3, B, H)
        p = torch.sigmoid(torch.stack([layer(x) for layer, x in zip(self.private, rows)]))
        s = torch.sigmoid(self.shared(u))
        codes = torch.cat([p, s])
        mixed = self.transformer(codes.transpose(0, 1)).flatten(1)
        y = self.fusion_3(self.dropout(F.relu(self.fusion_1(mixed))))
        return (y, self.losses(u, p, s, codes)) if self.training else y

    def losses(self, u, p, s, codes):
        sim, diff, recon = self.weights
        rebuilt = torch.stack([layer(x) for layer, x in zip(self.recon, p + s)])
        loss = recon * F.mse_loss(rebuilt, u)
        return loss + sim * self.discrepancy(s) + diff * self.difference(codes)

    @staticmethod
    def discrepancy(s):
        """Central moments up to the fifth, mean over the three pairs."""
        a, b = PAIRS
        mean = s.mean(dim=1)
        centred = s - mean.unsqueeze(1)
        moments, power = [mean], centred
        for _ in range(4):
            power = power * centred
            moments.append(power.mean(dim=1))
        moments = torch.stack(moments)  # (5, 3, H)
        return torch.linalg.vector_norm(moments[:, a] - moments[:, b], dim=2).sum() / 3

    @staticmethod
    def difference(codes):
        """Private against shared of every modality, and private against private."""
        x = codes - codes.mean(dim=1, keepdim=True)
        x = x / (x.norm(dim=2, keepdim=True).detach() + 1e-6)
        left, right = x[[0, 1, 2, 0, 0, 1]], x[[3, 4, 5, 1, 2, 2]]
        return torch.bmm(left.transpose(1, 2), right).pow(2).mean(dim=(1, 2)).sum()


# ---- Attention -----------------------------------------------------------------------------


def split_heads(x, heads, parts):
    """(B, T, parts D) to `parts` tensors (B, H, T, D / H)."""
    rows, steps, width = x.shape
    x = x.view(rows, steps, parts, heads, width // (parts * heads)).permute(2, 0, 3, 1, 4)
    return x.unbind(0)


def join_heads(x):
    return x.transpose(1, 2).flatten(2)


class MultLayer(nn.Module):
    """Norm first; keys and values are the source's, through the same norm."""

    def __init__(self, width, heads, attention_dropout, inner_dropout, dropout):
        super().__init__()
        self.width, self.heads, self.p_attention = width, heads, attention_dropout
        self.in_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_bias = nn.Parameter(torch.zeros(3 * width))
        self.out = nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm_0, self.norm_1 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inner_dropout, self.dropout = nn.Dropout(inner_dropout), nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.in_weight)

    def forward(self, x, source, mask):
        u, d = self.norm_0(x), self.width
        if source is None:
            q, k, v = split_heads(F.linear(u, self.in_weight, self.in_bias), self.heads, 3)
        else:
            (q,) = split_heads(F.linear(u, self.in_weight[:d], self.in_bias[:d]), self.heads, 1)
            both = F.linear(self.norm_0(source), self.in_weight[d:], self.in_bias[d:])
            k, v = split_heads(both, self.heads, 2)
        p = self.p_attention if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        x = x + self.dropout(self.out(join_heads(y)))
        inner = self.inner_dropout(F.relu(self.fc1(self.norm_1(x))))
        return x + self.dropout(self.fc2(inner))


class MultStack(nn.Module):
    def __init__(self, width, heads, layers, attention_dropout, steps, source_steps):
        super().__init__()
        self.layers = nn.ModuleList(
            MultLayer(width, heads, attention_dropout, 0.1, 0.1) for _ in range(layers)
        )
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(0.1)
        self.scale = math.sqrt(width)
        half = width // 2
        rates = torch.exp(torch.arange(half) * (-math.log(10000) / (half - 1)))
        angles = torch.arange(1, max(steps, source_steps) + 1).unsqueeze(1) * rates
        table = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
        self.register_buffer("positions", table, persistent=False)
        ahead = abs(source_steps - steps)
        hidden = torch.ones(steps, source_steps, dtype=torch.bool).triu(1 + ahead)
        mask = torch.zeros(steps, source_steps).masked_fill(hidden, -math.inf)
        self.register_buffer("mask", mask, persistent=False)

    def embed(self, x):
        places = (x[:, :, :1] != 0) * self.positions[: x.shape[1]]
        return self.dropout(torch.add(places, x, alpha=self.scale))

    def forward(self, x, source=None):
        x = self.embed(x)
        source = None if source is None else self.embed(source)
        for layer in self.layers:
            x = layer(x, source, self.mask)
        return self.norm(x)


class MulT(nn.Module):
    """src/models/mult.c at the paper's width 40, 8 heads, 4 layers."""

    def __init__(self, widths=(768, 5, 20), kernels=(1, 3, 3), steps=50, width=40, heads=8, levels=4):
        super().__init__()
        self.project = nn.ModuleList(
            nn.Conv1d(w, width, k, bias=False) for w, k in zip(widths, kernels)
        )
        n = [steps - k + 1 for k in kernels]
        p = (0.1, 0.0, 0.0)  # on attention weights, by source
        self.cross = nn.ModuleList(
            nn.ModuleList(
                MultStack(width, heads, levels, p[j], n[i], n[j]) for j in range(3) if j != i
            )
            for i in range(3)
        )
        self.memory = nn.ModuleList(
            MultStack(2 * width, heads, max(levels, 3), 0.1, n[i], n[i]) for i in range(3)
        )
        self.proj_1, self.proj_2 = nn.Linear(6 * width, 6 * width), nn.Linear(6 * width, 6 * width)
        self.out = nn.Linear(6 * width, 1)
        self.dropout = nn.Dropout(0.1)

    def forward(self, text, audio, vision):
        inputs = (self.dropout(text), audio, vision)
        x = [p(v.transpose(1, 2)).transpose(1, 2) for p, v in zip(self.project, inputs)]
        features = []
        for i, (stacks, memory) in enumerate(zip(self.cross, self.memory)):
            sources = [x[j] for j in range(3) if j != i]
            h = torch.cat([stack(x[i], source) for stack, source in zip(stacks, sources)], dim=2)
            features.append(memory(h)[:, -1])
        h = torch.cat(features, dim=1)
        return self.out(h + self.proj_2(self.dropout(F.relu(self.proj_1(h)))))


class DeviationNorm(nn.Module):
    def __init__(self, width, eps=1e-6):
        super().__init__()
        self.a_2, self.b_2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x):
        deviation, mean = torch.std_mean(x, dim=-1, keepdim=True)
        return self.a_2 * (x - mean) / (deviation + self.eps) + self.b_2


class McanAttention(nn.Module):
    def __init__(self, width, heads, dropout, is_self):
        super().__init__()
        self.heads, self.p, self.is_self = heads, dropout, is_self
        self.qkv = nn.Linear(width, 3 * width) if is_self else None
        self.q = None if is_self else nn.Linear(width, width)
        self.kv = None if is_self else nn.Linear(width, 2 * width)
        self.merge = nn.Linear(width, width)

    def forward(self, x, source, mask):
        if self.is_self:
            q, k, v = split_heads(self.qkv(x), self.heads, 3)
        else:
            (q,) = split_heads(self.q(x), self.heads, 1)
            k, v = split_heads(self.kv(source), self.heads, 2)
        p = self.p if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        return self.merge(join_heads(y))


class McanBlock(nn.Module):
    """Self-attention, in the decoder attention to the words as well, and two linear layers."""

    def __init__(self, width, heads, inner, dropout, guided):
        super().__init__()
        self.own = McanAttention(width, heads, dropout, True)
        self.guided = McanAttention(width, heads, dropout, False) if guided else None
        self.fc, self.out = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norms = nn.ModuleList(DeviationNorm(width) for _ in range(3 if guided else 2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask, words=None, words_mask=None):
        x = self.norms[0](x + self.dropout(self.own(x, x, mask)))
        if self.guided is not None:
            x = self.norms[1](x + self.dropout(self.guided(x, words, words_mask)))
        inner = self.out(self.dropout(F.relu(self.fc(x))))
        return self.norms[-1](x + self.dropout(inner))


class McanFlat(nn.Module):
    def __init__(self, width, hidden, outputs, dropout):
        super().__init__()
        self.fc, self.score = nn.Linear(width, hidden), nn.Linear(hidden, 1)
        self.merge, self.dropout = nn.Linear(width, outputs), nn.Dropout(dropout)

    def forward(self, x, mask):
        scores = self.score(self.dropout(F.relu(self.fc(x)))).transpose(1, 2)
        weights = torch.softmax(scores + mask.squeeze(1), dim=-1)
        return self.merge(torch.matmul(weights, x).squeeze(1))


def hide(is_padding):
    """What scores (B, H, Tq, Tk) are added to."""
    return torch.zeros(is_padding.shape).masked_fill(is_padding, -1e9)[:, None, None]


class MCAN(nn.Module):
    """src/models/mcan.c at the paper's small size."""

    def __init__(self, image=2048, words=20000, width=512, heads=8, layers=6, classes=3129):
        super().__init__()
        inner, outputs, dropout = 4 * width, 2 * width, 0.1
        self.embedding = nn.Embedding(words, 300)
        self.lstm = nn.LSTM(300, width, batch_first=True)
        self.image = nn.Linear(image, width)
        self.encoder = nn.ModuleList(
            McanBlock(width, heads, inner, dropout, False) for _ in range(layers)
        )
        self.decoder = nn.ModuleList(
            McanBlock(width, heads, inner, dropout, True) for _ in range(layers)
        )
        self.flat_image = McanFlat(width, width, outputs, dropout)
        self.flat_text = McanFlat(width, width, outputs, dropout)
        self.norm, self.proj = DeviationNorm(outputs), nn.Linear(outputs, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, image, question):
        mask_x, mask_y = hide(question == 0), hide(image.abs().sum(dim=-1) == 0)
        x = self.lstm(self.dropout(self.embedding(question)))[0]
        y = self.image(image)
        for block in self.encoder:
            x = block(x, mask_x)
        for block in self.decoder:
            y = block(y, mask_y, x, mask_x)
        z = self.norm(self.flat_text(x, mask_x) + self.flat_image(y, mask_y))
        logits = self.proj(z)
        return logits if self.training else torch.sigmoid(logits)
