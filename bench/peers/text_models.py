"""BERT in PyTorch and in ONNX Runtime, as a worker that times it on request.

Structure and names are Hugging Face's (which is not needed for it), with
F.scaled_dot_product_attention; sizes are those of bench/bench_encoders.c. A request is one line, as
bench_encoders has it, with MODEL@VARIANT:

    eager      the model as it is, torch.optim.Adam
    fused      the same, Adam(fused=True)
    compile    torch.compile(model)
    int8       torch.ao dynamic quantisation of the linear layers (inference)
    onnx       the exported model in ONNX Runtime (inference)
    onnx-fused the same after onnxruntime.transformers' fusions for BERT
    onnx-int8  the same after ONNX Runtime's dynamic quantisation
"""

import os
import sys
import tempfile
import time

import torch
import torch.nn.functional as F
from torch import nn

import worker

STEPS, VOCABULARY = 128, 30522
THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else 2
# width, layers, heads, batch
MODELS = {"bert-base": (768, 12, 12, 8), "minilm-l6": (384, 6, 12, 16)}


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.dense, self.norm_1 = nn.Linear(width, width), nn.LayerNorm(width, eps=1e-12)
        self.intermediate, self.output = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm_2, self.dropout = nn.LayerNorm(width, eps=1e-12), nn.Dropout(0.1)

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x, mask):
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        p = 0.1 if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        y = y.transpose(1, 2).reshape(x.shape)
        x = self.norm_1(x + self.dropout(self.dense(y)))
        return self.norm_2(x + self.dropout(self.output(F.gelu(self.intermediate(x)))))


class Bert(nn.Module):
    def __init__(self, width, layers, heads):
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, width, padding_idx=0)
        self.positions, self.types = nn.Embedding(512, width), nn.Embedding(2, width)
        self.norm, self.dropout = nn.LayerNorm(width, eps=1e-12), nn.Dropout(0.1)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.pooler = nn.Linear(width, width)

    def forward(self, words):
        mask = (words != 0)[:, None, None, :].expand(-1, 1, words.shape[1], -1)
        places = torch.arange(words.shape[1], device=words.device)
        x = self.words(words) + self.positions(places) + self.types(torch.zeros_like(words))
        x = self.dropout(self.norm(x))
        for layer in self.layers:
            x = layer(x, mask)
        return torch.tanh(self.pooler(x[:, 0]))


class Session:
    """The exported model in ONNX Runtime."""

    def __init__(self, model, words, variant):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.onnx")
            torch.onnx.export(model.eval(), words, path, dynamo=False, opset_version=17)
            if variant == "onnx-fused":
                path = self.fuse(path, model)
            elif variant == "onnx-int8":
                path = self.quantise(path)
            self.session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        self.feed = {self.session.get_inputs()[0].name: words.numpy()}

    @staticmethod
    def fuse(path, model):
        from onnxruntime.transformers import optimizer

        heads, width = model.layers[0].heads, model.words.embedding_dim
        fused = optimizer.optimize_model(path, "bert", num_heads=heads, hidden_size=width)
        fused.save_model_to_file(path + ".fused")
        return path + ".fused"

    @staticmethod
    def quantise(path):
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(path, path + ".int8", weight_type=QuantType.QInt8)
        return path + ".int8"

    def __call__(self, _):
        return self.session.run(None, self.feed)


class Bench:
    def __init__(self, name, variant):
        torch.manual_seed(1)
        width, layers, heads, batch = MODELS[name]
        self.model = Bert(width, layers, heads)
        self.words = torch.randint(1, VOCABULARY, (batch, STEPS))
        self.classes = torch.randint(0, width, (batch,))
        self.run = self.model
        if variant == "compile":
            self.run = torch.compile(self.model)
        elif variant == "int8":
            self.run = torch.ao.quantization.quantize_dynamic(
                self.model.eval(), {nn.Linear}, dtype=torch.qint8
            )
        elif variant.startswith("onnx"):
            self.run = Session(self.model, self.words, variant)
        self.optimizer = torch.optim.Adam(self.model.parameters(), fused=variant == "fused" or None)

    def infer(self, n):
        self.model.eval()
        with torch.inference_mode():
            for _ in range(n):
                self.run(self.words)

    def train(self, n):
        self.model.train()
        for _ in range(n):
            self.optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(self.run(self.words), self.classes).backward()
            self.optimizer.step()

    def parameters(self):
        return sum(p.numel() for p in self.model.parameters())


if __name__ == "__main__":
    worker.serve(Bench)
