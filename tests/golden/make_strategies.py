#!/usr/bin/python3
"""Writes strategies.json: what three rounds of every strategy make of a small model, computed here from the papers'
formulas with NumPy in double precision (aggregator/strategy.hpp names them), and what rounds of SCAFFOLD with parts of the
clients make of quadratic losses. Needs Debian's python3-numpy; the results are committed, so tests do not need it.

    tests/golden/make_strategies.py tests/golden
"""
import json
import pathlib
import sys

import numpy as np

ROUNDS, CLIENTS, SIZE = 3, 3, 5
OPTIONS = {"server_lr": 0.5, "momentum": 0.8, "beta1": 0.9, "beta2": 0.95, "tau": 0.01}
SAMPLES = np.array([10.0, 70.0, 20.0])
STEPS = np.array([2, 7, 3])
LOCAL = {"lr": 0.1, "momentum": 0.6, "proximal": 3.0}


def mean(changes):
    return SAMPLES @ changes / SAMPLES.sum()


def fedavg(rounds, x):
    for changes in rounds:
        x = x + OPTIONS["server_lr"] * mean(changes)
        yield x


def fedavgm(rounds, x):
    v = np.zeros(SIZE)
    for changes in rounds:
        v = OPTIONS["momentum"] * v + mean(changes)
        x = x + OPTIONS["server_lr"] * v
        yield x


def adaptive(second_moment):
    def strategy(rounds, x):
        m, v = np.zeros(SIZE), np.full(SIZE, OPTIONS["tau"] ** 2)
        for changes in rounds:
            delta = mean(changes)
            m = OPTIONS["beta1"] * m + (1 - OPTIONS["beta1"]) * delta
            v = second_moment(v, delta**2)
            x = x + OPTIONS["server_lr"] * m / (np.sqrt(v) + OPTIONS["tau"])
            yield x

    return strategy


def accumulation(steps, momentum, pull):
    """The vector a of Wang et al.: the weight of each step's gradient in the client's change, by differentiating it."""

    def change(gradients):
        way, velocity = 0.0, 0.0
        for gradient in gradients:
            velocity = momentum * velocity + gradient + pull * way
            way = way - velocity
        return -way

    return np.array([change(np.eye(steps)[k]) for k in range(steps)])


def fednova(rounds, x):
    a = np.array([np.abs(accumulation(n, LOCAL["momentum"], LOCAL["lr"] * LOCAL["proximal"])).sum() for n in STEPS])
    p = SAMPLES / SAMPLES.sum()
    for changes in rounds:
        x = x + OPTIONS["server_lr"] * (p @ a) * (p @ (changes / a[:, None]))
        yield x


def scaffold(draw, steps):
    """Algorithm 1 of Karimireddy et al., option II, client by client. Client i has the loss |A_i y - b_i|^2 / 2, so that its
    gradient depends on y; `steps` has each client's K. Where clients differ, the sum over them that moves c is weighted by
    weight * K over that of all clients, as strategy.hpp says, of which only the clients so far are known; with equal steps
    and weights it is the paper's."""
    lr, server_lr, clients, cohort, rounds = 0.1, 0.8, 6, 3, 6
    a = draw.normal(scale=0.7, size=(clients, SIZE, SIZE))
    b = draw.normal(size=(clients, SIZE))
    samples = np.array([10.0, 70.0, 20.0, 35.0, 55.0, 5.0]) if len(set(steps)) > 1 else np.ones(clients)
    x = start = draw.normal(size=SIZE)
    c, own = np.zeros(SIZE), np.zeros((clients, SIZE))
    history, seen = [], []
    for _ in range(rounds):
        asked = np.sort(draw.choice(clients, cohort, replace=False))
        deltas, controls = [], []
        for i in asked:
            y = x
            for _ in range(steps[i]):
                y = y - lr * (a[i].T @ (a[i] @ y - b[i]) - own[i] + c)
            deltas.append(y - x)
            controls.append(own[i] - c + (x - y) / (steps[i] * lr))
        weights = samples[asked]
        moves = np.array(controls) - own[asked]
        x = x + server_lr * (weights @ np.array(deltas)) / weights.sum()
        by_steps = weights * np.array(steps)[asked]
        seen.extend(by_steps)
        c = c + by_steps @ moves / max(clients * np.mean(seen), by_steps.sum())
        own[asked] = controls
        now = {"asked": asked, "updates": np.array(deltas), "model": x, "control": c, "own": own}
        history.append({name: value.tolist() for name, value in now.items()})
    return {
        "lr": lr,
        "server_lr": server_lr,
        "steps": list(steps),
        "samples": samples.astype(int).tolist(),
        "a": a.tolist(),
        "b": b.tolist(),
        "start": start.tolist(),
        "rounds": history,
    }


def main():
    draw = np.random.default_rng(8)
    start = draw.normal(size=SIZE)
    rounds = draw.normal(scale=0.1, size=(ROUNDS, CLIENTS, SIZE))
    beta2 = OPTIONS["beta2"]
    strategies = {
        "fedavg": fedavg,
        "fedavgm": fedavgm,
        "fedadagrad": adaptive(lambda v, square: v + square),
        "fedadam": adaptive(lambda v, square: beta2 * v + (1 - beta2) * square),
        "fedyogi": adaptive(lambda v, square: v - (1 - beta2) * square * np.sign(v - square)),
        "fednova": fednova,
    }
    result = {
        "options": OPTIONS,
        "local": LOCAL,
        "samples": SAMPLES.astype(int).tolist(),
        "steps": STEPS.tolist(),
        "start": start.tolist(),
        "changes": rounds.tolist(),
        "models": {name: [x.tolist() for x in strategy(rounds, start)] for name, strategy in strategies.items()},
        "scaffold": [scaffold(draw, (4,) * 6), scaffold(draw, (2, 7, 3, 4, 6, 1))],
    }
    pathlib.Path(sys.argv[1], "strategies.json").write_text(json.dumps(result, indent=1) + "\n")


main()
