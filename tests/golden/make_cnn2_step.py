#!/usr/bin/python3
"""Writes cnn2_step.json: loss and gradients of one CNN-2 batch by PyTorch, from parameters and inputs that any program can
make again (formulas below). Needs Debian's python3-torch and python3-numpy; the result is committed, so tests need neither.

    tests/golden/make_cnn2_step.py > tests/golden/cnn2_step.json
"""
import json
import numpy as np, torch, torch.nn.functional as F

BATCH = 8
# Layout of the flat vector: conv weights [kernel_h, kernel_w, in, out], linear weights [in, out], inputs NHWC.
SHAPES = [("conv1", [(3, 3, 1, 16), (16,)]), ("conv2", [(3, 3, 16, 32), (32,)]),
          ("fc1", [(1568, 128), (128,)]), ("fc2", [(128, 10), (10,)])]
SCALE = {"conv1": 0.4, "conv2": 0.12, "fc1": 0.04, "fc2": 0.12}

torch.set_default_dtype(torch.float64)
leaves, layers, position = [], [], 0
for name, shapes in SHAPES:
    tensors = []
    for shape in shapes:
        count = int(np.prod(shape))
        i = np.arange(position, position + count, dtype=np.float64)
        values = (SCALE[name] * np.sin(0.7 * i + 0.0001 * i * i)).astype(np.float32).astype(np.float64)
        tensors.append(torch.tensor(values.reshape(shape), requires_grad=True))
        position += count
    leaves += tensors
    layers.append((name, tensors))
i = np.arange(BATCH * 28 * 28, dtype=np.float64)
x = torch.tensor(np.cos(0.013 * i + 0.00001 * i * i).astype(np.float32).astype(np.float64).reshape(BATCH, 28, 28, 1))
labels = torch.arange(BATCH) % 10
(_, (w1, b1)), (_, (w2, b2)), (_, (w3, b3)), (_, (w4, b4)) = layers
h = F.max_pool2d(F.relu(F.conv2d(x.permute(0, 3, 1, 2), w1.permute(3, 2, 0, 1), b1, padding=1)), 2)
h = F.max_pool2d(F.relu(F.conv2d(h, w2.permute(3, 2, 0, 1), b2, padding=1)), 2)
h = F.relu(h.permute(0, 2, 3, 1).reshape(BATCH, -1) @ w3 + b3)
loss = F.cross_entropy(h @ w4 + b4, labels)
loss.backward()
result = {"batch": BATCH, "loss": loss.item(), "scale": SCALE, "layers": []}
for name, tensors in layers:
    gradient = np.concatenate([t.grad.numpy().ravel() for t in tensors])
    picks = np.linspace(0, gradient.size - 1, 24).astype(int)
    result["layers"].append({"name": name, "count": int(gradient.size), "norm": float(np.linalg.norm(gradient)),
                             "samples": [[int(p), float(gradient[p])] for p in picks]})
print(json.dumps(result, indent=1))
