#!/usr/bin/python3
"""Writes layers.json: what PyTorch computes, in double precision, for single layers: output, gradient of the input,
gradients of the parameters and, for batch norm, the running statistics afterwards. Operands are made by formulas.py:
x from wave(1000, n, reach), dy from wave(5000, n, 1), parameters from wave(0, n, 0.5, base), base 1 for the weight and
the variance of norms. Needs Debian's python3-torch and python3-numpy; the result is committed, so tests need neither.

    tests/golden/make_layers.py > tests/golden/layers.json
"""
import json

import numpy as np
import torch
import torch.nn.functional as F

from formulas import wave

torch.set_default_dtype(torch.float64)


def nchw(x):
    return x.permute(0, 3, 1, 2) if x.dim() == 4 else x


def nhwc(x):
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x


def conv(o, x, p):
    bias = p[1] if len(p) > 1 else None
    return F.conv2d(x, p[0].permute(3, 2, 0, 1), bias, o.get("stride", 1), o.get("padding", 0), 1, o.get("groups", 1))


def batch_norm(o, x, p):
    training = o["mode"] == "train"
    return F.batch_norm(x, p[2].data, p[3].data, p[0], p[1], training=training, momentum=0.1, eps=1e-5)


def residual(o, x, p):
    shortcut = x if len(p) == 1 else F.conv2d(x, p[1].permute(3, 2, 0, 1), None, o["stride"])
    return F.relu(F.conv2d(x, p[0].permute(3, 2, 0, 1), None, o["stride"], 1) + shortcut)


LAYERS = {
    "linear": lambda o, x, p: x @ p[0] + p[1],
    "conv2d": conv,
    "relu": lambda o, x, p: F.relu(x),
    "relu6": lambda o, x, p: F.relu6(x),
    "tanh": lambda o, x, p: torch.tanh(x),
    "hard_tanh": lambda o, x, p: F.hardtanh(x),
    "max_pool": lambda o, x, p: F.max_pool2d(x, o["kernel"], o["stride"], o["padding"]),
    "avg_pool": lambda o, x, p: F.avg_pool2d(x, o["kernel"], o["stride"], o["padding"], count_include_pad=False),
    "global_pool": lambda o, x, p: x.mean(dim=(2, 3)),
    "batch_norm": batch_norm,
    "group_norm": lambda o, x, p: F.group_norm(x, o["groups"], p[0], p[1], eps=1e-5),
    "residual": residual,
}


def parameters_of(shapes, norm):
    tensors, position = [], 0
    for i, shape in enumerate(shapes):
        count = int(np.prod(shape))
        base = 1.0 if norm and i in (0, 3) else 0.0
        values = wave(position, count, 0.5, base).reshape(shape)
        tensors.append(torch.tensor(values, requires_grad=i < 2))
        position += count
    return tensors


def digits(tensor):
    return [float(f"{value:.7g}") for value in tensor.detach().numpy().ravel()]


def case(kind, item, shapes=(), reach=1.0, batch=2, **options):
    count = batch * int(np.prod(item))
    x = torch.tensor(wave(1000, count, reach).reshape(batch, *item), requires_grad=True)
    parameters = parameters_of(shapes, "norm" in kind)
    y = nhwc(LAYERS[kind](options, nchw(x), parameters))
    dy = torch.tensor(wave(5000, y.numel(), 1.0).reshape(y.shape))
    (y * dy).sum().backward()
    result = {"kind": kind, "input": [batch, *item], "output": list(y.shape), "reach": reach, "options": options,
              "y": digits(y), "dx": digits(x.grad)}
    if parameters:
        result["gradients"] = [v for t in parameters[:2] for v in digits(t.grad)]
    if kind == "batch_norm":
        result["running"] = [v for t in parameters[2:] for v in digits(t)]
    return json.dumps(result)


def conv_case(item, kernel, out, groups=1, bias=True, **options):
    shapes = [(kernel, kernel, item[2] // groups, out)] + ([(out,)] if bias else [])
    return case("conv2d", item, shapes, kernel=kernel, groups=groups, bias=bias, **options)


IMAGE = (6, 5, 4)
NORM = [(4,)] * 4
cases = [
    case("linear", (7,), [(7, 5), (5,)]),
    conv_case(IMAGE, 3, 3, padding=1),
    conv_case(IMAGE, 3, 3, padding=1, stride=2, bias=False),
    conv_case((7, 7, 3), 5, 2, padding=2, stride=3),
    conv_case(IMAGE, 1, 6, stride=2),
    conv_case(IMAGE, 2, 3),
    conv_case(IMAGE, 3, 6, groups=2, padding=1),
    conv_case(IMAGE, 3, 4, groups=4, padding=1),
    conv_case(IMAGE, 3, 4, groups=4, padding=1, stride=2, bias=False),
    conv_case((8, 8, 16), 3, 16, groups=16, padding=1, stride=2),
    case("relu", IMAGE),
    case("relu6", IMAGE, reach=10.0),
    case("tanh", IMAGE, reach=3.0),
    case("hard_tanh", IMAGE, reach=2.0),
    case("max_pool", (6, 4, 3), kernel=2, stride=2, padding=0),
    case("max_pool", IMAGE, kernel=2, stride=2, padding=0),
    case("max_pool", IMAGE, kernel=3, stride=2, padding=1),
    case("max_pool", IMAGE, kernel=3, stride=1, padding=0),
    case("avg_pool", IMAGE, kernel=2, stride=2, padding=0),
    case("avg_pool", IMAGE, kernel=3, stride=2, padding=1),
    case("global_pool", IMAGE),
    case("batch_norm", IMAGE, NORM, mode="train"),
    case("batch_norm", (9, 8, 3), [(3,)] * 4, mode="train", reach=4.0),
    case("batch_norm", IMAGE, NORM, mode="evaluate"),
    case("batch_norm", (5,), [(5,)] * 4, batch=11, mode="train"),
    case("group_norm", IMAGE, NORM[:2], groups=1),
    case("group_norm", IMAGE, NORM[:2], groups=2),
    case("group_norm", (6,), [(6,)] * 2, groups=3),
    case("residual", IMAGE, [(3, 3, 4, 4)], stride=1),
    case("residual", IMAGE, [(3, 3, 4, 6), (1, 1, 4, 6)], stride=2),
]
print("[\n" + ",\n".join(cases) + "\n]")
