"""Residual networks in PyTorch, and in ONNX Runtime, as workers that time them on request.

Structure is torchvision's (which is not needed for it); sizes are those of bench/bench_encoders.c. A
request is one line, as bench_encoders has it, with MODEL@VARIANT:

    eager          the model as it is, torch.optim.Adam
    channels-last  images and weights in the layout NHWC
    compile        torch.compile(model)
    onnx           the exported model in ONNX Runtime (inference)
"""

import os
import sys
import tempfile
import time

import torch
import torch.nn.functional as F
from torch import nn

import worker

BATCH, SIDE, CLASSES = 8, 224, 1000
THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else 2


def conv(inputs, outputs, kernel, stride=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class Block(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1."""

    def __init__(self, inputs, planes, stride, bottleneck):
        super().__init__()
        outputs = 4 * planes if bottleneck else planes
        if bottleneck:
            sizes = ((inputs, planes, 1, 1), (planes, planes, 3, stride), (planes, outputs, 1, 1))
        else:
            sizes = ((inputs, planes, 3, stride), (planes, planes, 3, 1))
        self.convs = nn.ModuleList(conv(*size) for size in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(size[1]) for size in sizes)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = x
        for i, (convolution, norm) in enumerate(zip(self.convs, self.norms)):
            y = norm(convolution(y))
            y = F.relu(y, inplace=True) if i + 1 < len(self.convs) else y
        return F.relu(y + (self.downsample(x) if self.downsample else x), inplace=True)


class ResNet(nn.Module):
    def __init__(self, layers, bottleneck):
        super().__init__()
        self.conv1, self.bn1 = conv(3, 64, 7, 2), nn.BatchNorm2d(64)
        inputs, blocks = 64, []
        for stage, count in enumerate(layers):
            planes = 64 << stage
            for k in range(count):
                stride = 2 if k == 0 and stage > 0 else 1
                blocks.append(Block(inputs, planes, stride, bottleneck))
                inputs = 4 * planes if bottleneck else planes
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)
        return self.fc(self.blocks(x).mean((2, 3)))


MODELS = {
    "resnet18": lambda: ResNet((2, 2, 2, 2), False),
    "resnet50": lambda: ResNet((3, 4, 6, 3), True),
}


class Session:
    """The exported model in ONNX Runtime."""

    def __init__(self, model, images):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.onnx")
            torch.onnx.export(model.eval(), images, path, dynamo=False)
            self.session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        self.feed = {self.session.get_inputs()[0].name: images.numpy()}

    def __call__(self, _):
        return self.session.run(None, self.feed)


class Bench:
    def __init__(self, name, variant):
        torch.manual_seed(1)
        self.model = MODELS[name]()
        self.images = torch.randn(BATCH, 3, SIDE, SIDE)
        self.classes = torch.randint(0, CLASSES, (BATCH,))
        if variant == "channels-last":
            self.model = self.model.to(memory_format=torch.channels_last)
            self.images = self.images.to(memory_format=torch.channels_last)
        self.run = torch.compile(self.model) if variant == "compile" else self.model
        if variant == "onnx":
            self.run = Session(self.model, self.images)
        self.optimizer = torch.optim.Adam(self.model.parameters())

    def infer(self, n):
        self.model.eval()
        with torch.inference_mode():
            for _ in range(n):
                self.run(self.images)

    def train(self, n):
        self.model.train()
        for _ in range(n):
            self.optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(self.run(self.images), self.classes).backward()
            self.optimizer.step()

    def parameters(self):
        return sum(p.numel() for p in self.model.parameters())


if __name__ == "__main__":
    worker.serve(Bench)
