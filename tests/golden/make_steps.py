#!/usr/bin/python3
"""Writes cnn2_step.json, cnn4_step.json and resnet8_step.json: loss and gradients of one batch by PyTorch in double
precision, from parameters and inputs that any program can make again (formulas.py). Needs Debian's python3-torch and
python3-numpy; the results are committed, so tests need neither.

    tests/golden/make_steps.py tests/golden
"""
import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

from formulas import slow_wave, wave

SAMPLES = 24  # gradients that are written for each layer


class Parameters:
    """The flat vector: conv weights [kernel_h, kernel_w, in, out], linear weights [in, out]; batch norm has weight, bias,
    mean and variance. Layers are numbered in the order in which they ask."""

    def __init__(self):
        self.layers, self.position, self.ordinals = [], 0, {}

    def layer(self, kind, scale, shapes):
        self.ordinals[kind] = self.ordinals.get(kind, 0) + 1
        layer = {"name": f"{kind}{self.ordinals[kind]}", "scale": scale, "tensors": []}
        for name, shape in shapes:
            count = int(np.prod(shape))
            base = 1.0 if kind == "bn" and name in ("weight", "variance") else 0.0
            values = wave(self.position, count, scale, base)
            trained = name in ("weight", "bias")
            layer["tensors"].append(torch.tensor(values.reshape(shape), requires_grad=trained))
            self.position += count
        self.layers.append(layer)
        return layer["tensors"]

    def conv(self, x, out, kernel=3, stride=1, padding=1, bias=True, scale=None):
        inputs = x.shape[1]
        shapes = [("weight", (kernel, kernel, inputs, out))] + ([("bias", (out,))] if bias else [])
        scale = scale or 1.2 / np.sqrt(kernel * kernel * inputs)
        tensors = self.layer("conv", scale, shapes)
        return F.conv2d(x, tensors[0].permute(3, 2, 0, 1), tensors[1] if bias else None, stride, padding)

    def linear(self, x, out, scale):
        flat = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1) if x.dim() == 4 else x
        weight, bias = self.layer("fc", scale, [("weight", (flat.shape[1], out)), ("bias", (out,))])
        return flat @ weight + bias

    def batch_norm(self, x):
        shape = (x.shape[1],)
        names = ("weight", "bias", "mean", "variance")
        weight, bias, mean, variance = self.layer("bn", 0.3, [(name, shape) for name in names])
        return F.batch_norm(x, mean.clone(), variance.clone(), weight, bias, training=True, momentum=0.1, eps=1e-5)


def cnn2(p, x):
    x = F.relu(F.max_pool2d(p.conv(x, 16, scale=0.4), 2))
    x = F.relu(F.max_pool2d(p.conv(x, 32, scale=0.12), 2))
    return p.linear(F.relu(p.linear(x, 128, 0.04)), 10, 0.12)


def cnn4(p, x):
    x = F.relu(p.conv(x, 32))
    x = F.relu(F.max_pool2d(p.conv(x, 32), 2))
    x = F.relu(p.conv(x, 64))
    x = F.relu(F.max_pool2d(p.conv(x, 64), 2))
    return p.linear(F.relu(p.linear(x, 128, 0.03)), 10, 0.12)


def block(p, x, out, stride):
    y = F.relu(p.batch_norm(p.conv(x, out, stride=stride, bias=False)))
    y = p.batch_norm(p.conv(y, out, bias=False))
    return F.relu(y + (x if stride == 1 else p.conv(x, out, kernel=1, stride=stride, padding=0)))


def resnet8(p, x):
    x = F.relu(p.batch_norm(p.conv(x, 16, bias=False)))
    x = block(p, x, 16, 1)
    x = block(p, x, 32, 2)
    x = block(p, x, 64, 2)
    return p.linear(x.mean(dim=(2, 3)), 10, 0.3)


def step(model, network, batch, sample):
    p = Parameters()
    x = torch.tensor(slow_wave(batch * int(np.prod(sample))).reshape(batch, *sample)).permute(0, 3, 1, 2)
    loss = F.cross_entropy(network(p, x), torch.arange(batch) % 10)
    loss.backward()
    layers = []
    for layer in p.layers:
        gradient = np.concatenate([(torch.zeros_like(t) if t.grad is None else t.grad).numpy().ravel()
                                   for t in layer["tensors"]])
        picks = np.linspace(0, gradient.size - 1, SAMPLES).astype(int)
        layers.append({"name": layer["name"], "scale": layer["scale"], "count": int(gradient.size),
                       "norm": float(np.linalg.norm(gradient)),
                       "samples": [[int(i), float(f"{gradient[i]:.9g}")] for i in picks]})
    return {"model": model, "batch": batch, "sample": sample, "loss": loss.item(), "layers": layers}


def write(path, result):
    """One line for each layer."""
    head = ",\n ".join(f"{json.dumps(key)}: {json.dumps(result[key])}" for key in result if key != "layers")
    layers = ",\n  ".join(json.dumps(layer) for layer in result["layers"])
    path.write_text(f"{{{head},\n \"layers\": [\n  {layers}\n ]}}\n")


torch.set_default_dtype(torch.float64)
folder = pathlib.Path(sys.argv[1])
write(folder / "cnn2_step.json", step("cnn2", cnn2, 8, [28, 28, 1]))
write(folder / "cnn4_step.json", step("cnn4", cnn4, 4, [28, 28, 1]))
write(folder / "resnet8_step.json", step("resnet8", resnet8, 4, [32, 32, 3]))
