#!/usr/bin/env python3
"""Writes regression.csv: 1,250 rows of 10 standard normal features and y = w x + b + e, e normal of deviation 0.5. Each
weight and the bias lie within 0.6 .. 1.4, of either sign: Adam at 0.005 gets there in 300 steps, and the mean square of
y is of the size of the loss that the source reports for its noisy training. Python's own generator gives the same file
everywhere."""
import random
import sys

draw = random.Random(80000)
weights = [draw.choice([-1, 1]) * draw.uniform(0.6, 1.4) for _ in range(11)]
with open(sys.argv[1] if len(sys.argv) > 1 else "regression.csv", "w") as out:
    for _ in range(1250):
        x = [draw.gauss(0, 1) for _ in range(10)]
        y = sum(w * v for w, v in zip(weights, [*x, 1])) + draw.gauss(0, 0.5)
        out.write(",".join(f"{v:.3f}" for v in [*x, y]) + "\n")
