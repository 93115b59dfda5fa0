#!/usr/bin/python3
"""Writes robust.json: what every rule of aggregator/robust makes of one cohort, computed here from the papers' formulas
with NumPy in double precision, on the updates themselves and not on their inner products. Updates are made by
formulas.py: CLIENTS rows of wave(0, CLIENTS * SIZE, 1), of which the last FAULTY are lies, wave(9000, FAULTY * SIZE, 1.1,
0.4), near enough for mixing to take some in. Needs Debian's python3-numpy; the result is committed, so tests do not need
it.

    tests/golden/make_robust.py > tests/golden/robust.json
"""
import json

import numpy as np

from formulas import wave

CLIENTS, FAULTY, SIZE = 12, 2, 70
RADIUS = 3.0


def cohort():
    x = wave(0, CLIENTS * SIZE, 1).reshape(CLIENTS, SIZE)
    x[-FAULTY:] = wave(9000, FAULTY * SIZE, 1.1, 0.4).reshape(FAULTY, SIZE)
    return x


def squares(x):
    return ((x[:, None] - x[None]) ** 2).sum(-1)


def krum_order(x, f):
    count = max(len(x) - f - 2, 1)
    return np.argsort(np.sort(squares(x), 1)[:, 1 : count + 1].sum(1), kind="stable")


def bulyan(x):
    left, selected = list(range(len(x))), []
    while len(selected) < len(x) - 2 * FAULTY:
        selected.append(left.pop(krum_order(x[left], FAULTY)[0]))
    values = x[selected]
    near = np.argsort(abs(values - np.median(values, 0)), 0, kind="stable")[: len(x) - 4 * FAULTY]
    return np.take_along_axis(values, near, 0).mean(0)


def geometric_median(x):
    z = x.mean(0)
    for _ in range(100000):
        w = 1 / np.maximum(np.linalg.norm(x - z, axis=1), 1e-9)
        z = w @ x / w.sum()
    return z


def centered_clipping(radius):
    def rule(x):
        v = np.zeros(SIZE)
        for _ in range(3):
            distances = np.linalg.norm(x - v, axis=1)
            tau = radius or np.sort(distances)[(len(x) - 1) // 2]
            v = v + ((x - v) * np.minimum(1, tau / distances)[:, None]).mean(0)
        return v

    return rule


RULES = {
    "median": lambda x: np.median(x, 0),
    "trimmed_mean": lambda x: np.sort(x, 0)[FAULTY:-FAULTY].mean(0),
    "krum": lambda x: x[krum_order(x, FAULTY)[0]],
    "multi_krum": lambda x: x[krum_order(x, FAULTY)[: len(x) - FAULTY]].mean(0),
    "bulyan": bulyan,
    "geometric_median": geometric_median,
    "centered_clipping": centered_clipping(0),
    "centered_clipping of a radius": centered_clipping(RADIUS),
}


def mixed(x):
    nearest = np.argsort(squares(x), 1, kind="stable")[:, : len(x) - FAULTY]
    return x[nearest].mean(1)


x = cohort()
golden = {"clients": CLIENTS, "faulty": FAULTY, "size": SIZE, "radius": RADIUS}
golden["rules"] = {name: list(rule(x)) for name, rule in RULES.items()}
golden["mixed"] = {name: list(rule(mixed(x))) for name, rule in RULES.items()}
print(json.dumps(golden, indent=1))
