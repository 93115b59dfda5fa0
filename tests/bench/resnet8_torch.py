#!/usr/bin/python3
"""ResNet-8 on CIFAR-10 in a bare PyTorch training loop, for comparison: one process, no federation, batches by index.

    OMP_NUM_THREADS=1 tests/bench/resnet8_torch.py --synthetic --steps 60 [--amp]
    OMP_NUM_THREADS=1 tests/bench/resnet8_torch.py --data FOLDER --rounds 5 [--amp]    FOLDER: CIFAR-10's .bin files

Prints one JSON line: samples a second (training steps alone, after the first few), accuracy with --data, peak memory.
Needs Debian's python3-torch.

The network is the image classifier of MLPerf Tiny (Banbury et al., "MLPerf Tiny benchmark", NeurIPS 2021; its reference
is resnet_v1_eembc in Keras): 16-16-32-64 channels, three residual stacks, 77,360 weights.
- Parameters: 77,946 = 77,360 weights + 10 biases of the dense layer + 480 of batch norm (a gain and a shift for each
  of 240 channels) + 96 biases of the two shortcut convolutions, which no batch norm follows. The other convolutions
  have no bias: batch norm would take it away again. (Keras gives them one: 78,186, or 78,666 with running statistics.)
- Convolutions pad by 1 on all sides; TensorFlow's "same" pads those of stride 2 at the bottom and the right only.
"""
import argparse, glob, json, resource, time
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

options = argparse.ArgumentParser()
options.add_argument("--data", help="folder of data_batch_*.bin and test_batch.bin")
options.add_argument("--synthetic", action="store_true", help="random images of the same shape instead")
options.add_argument("--rounds", type=int, default=1, help="passes over the training set")
options.add_argument("--steps", type=int, default=0, help="at most so many steps a round; 0 = the whole set")
options.add_argument("--batch", type=int, default=32)
options.add_argument("--lr", type=float, default=0.05)
options.add_argument("--momentum", type=float, default=0.9)
options.add_argument("--seed", type=int, default=1)
options.add_argument("--amp", action="store_true", help="bf16 autocast, channels last")
options.add_argument("--channels-last", action="store_true", help="for fp32, too")
o = options.parse_args()
if o.synthetic == bool(o.data):
    options.error("expected either --data FOLDER or --synthetic")
torch.set_num_threads(1)
torch.manual_seed(o.seed)
layout = torch.channels_last if o.amp or o.channels_last else torch.contiguous_format
WARM_UP = 5  # steps that are not timed


class Stack(nn.Module):
    """relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)); the shortcut is x itself where the shape stays."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def resnet8():
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
                         Stack(16, 16, 1), Stack(16, 32, 2), Stack(32, 64, 2),
                         nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10))


def read(files):
    records = np.concatenate([np.fromfile(f, np.uint8).reshape(-1, 3073) for f in files])
    return records[:, 1:].reshape(-1, 3, 32, 32), torch.from_numpy(records[:, 0].astype(np.int64))


def scaled(pixels):
    return torch.from_numpy(pixels.astype(np.float32)).div_(255)


if o.synthetic:
    images, labels = torch.randn(3200, 3, 32, 32).contiguous(memory_format=layout), torch.randint(10, (3200,))
else:
    pixels, labels = read(sorted(glob.glob(o.data + "/data_batch_*.bin")))
    test_pixels, test_labels = read([o.data + "/test_batch.bin"])
    images = scaled(pixels)
    mean, deviation = images.mean((0, 2, 3), True), images.std((0, 2, 3), False, True)
    images = images.sub_(mean).div_(deviation).contiguous(memory_format=layout)

model = resnet8().to(memory_format=layout)
optimizer = torch.optim.SGD(model.parameters(), o.lr, o.momentum)
seconds, samples, steps = 0.0, 0, 0
for _ in range(o.rounds):
    for batch in torch.randperm(len(images)).split(o.batch)[:o.steps or None]:
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=o.amp):
            loss = F.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        steps += 1
        if steps > WARM_UP:
            seconds, samples = seconds + time.perf_counter() - start, samples + len(batch)

result = dict(torch=torch.__version__, amp=o.amp, batch=o.batch, steps=steps, samples=samples,
              parameters=sum(p.numel() for p in model.parameters()), samples_per_s=round(samples / max(seconds, 1e-9)),
              loss=round(loss.item(), 4), peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
if o.data:
    model.eval()
    with torch.no_grad():
        right = sum((model((scaled(test_pixels[i:i + 500]) - mean) / deviation).argmax(1) == test_labels[i:i + 500])
                    .sum().item() for i in range(0, len(test_labels), 500))
    result["accuracy"] = right / len(test_labels)
print(json.dumps(result))
