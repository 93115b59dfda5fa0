#!/usr/bin/env python3
"""The runs that tests/bench/precision.sh keeps, as Markdown: accuracy and cost with their Pareto front, the shape of the
schedules, and how bits follow curvature.

    tests/bench/precision_report.py OUT [--seeds N]
"""
import argparse
import json
import math
import pathlib
import statistics

FAILED_BELOW = 10  # points under fp32, paired: a run that failed, like one that gave up
LOCAL = ("forward", "backward")


def mean(values):
    return statistics.fmean(values)


def deviation(values):
    return statistics.stdev(values) if len(values) > 1 else 0.0


def error(values):
    return deviation(values) / math.sqrt(len(values))


class Run:
    def __init__(self, folder):
        self.summary = json.loads((folder / "summary.json").read_text())
        self.rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]

    accuracy = property(lambda self: 100 * (self.summary["final_accuracy"] or 0))
    bops = property(lambda self: 100 * self.summary["bops_ratio_fp32"])
    cost = property(lambda self: 100 * self.summary["bit_ops_ratio_fp32"])
    abandoned = property(lambda self: sum(not line["committed"] for line in self.rounds))
    changes = property(lambda self: sum(change["phase"] in LOCAL for line in self.rounds for change in line.get("changes", [])))

    def train_loss(self, step):
        """Of the round in which a client of every round has taken so many steps, or of the last one."""
        steps = 0
        for line in self.rounds:
            if line["committed"]:
                steps += -(-line["samples"] // (line["participants"] * 32))
            if steps >= step:
                break
        return line["train_loss"]

    def layers(self, line):
        """Those with products."""
        return [layer for layer in line["layers"] if not layer["name"].startswith(("bn", "gn")) and "_range" not in layer["name"]]

    def bits(self, line, phase):
        return [layer["bits"][phase] for layer in self.layers(line)]

    def mean_bits(self, line):
        return 32 * line["bit_ops"] / line["bit_ops_fp32"] if line["bit_ops_fp32"] else 32


def seeds_of(folder):
    """How many seeds, from 1 on, have run in fp32."""
    count = 0
    while (folder / f"fp32-{count + 1}" / "summary.json").exists():
        count += 1
    return count


def load(folder, seeds):
    """{row: [run of each seed; None for one that gave up]}; rows whose seeds are not all there are left out."""
    rows = {}
    for name in sorted({path.name.rsplit("-", 1)[0] for path in folder.iterdir()}):
        paths = [folder / f"{name}-{seed}" for seed in range(1, seeds + 1)]
        if all((path / "summary.json").exists() or (path / "failed").exists() for path in paths):
            rows[name] = [Run(path) if (path / "summary.json").exists() else None for path in paths]
        else:
            print(f"({folder.name}: {name} has not run with all {seeds} seeds)")
    return rows


def front(points):
    """Names of the points that no other one beats in both cost and accuracy."""
    return {name for name, (cost, accuracy) in points.items()
            if not any((c <= cost and a > accuracy) or (c < cost and a >= accuracy)
                       for other, (c, a) in points.items() if other != name)}


def table(rows):
    fp32 = [run.accuracy for run in rows["fp32"]]
    ended = {name: [run for run in runs if run] for name, runs in rows.items()}
    points = {name: (mean([run.cost for run in runs]), mean([run.accuracy for run in runs])) for name, runs in ended.items() if runs}
    best = front({name: point for name, point in points.items() if all(rows[name])})
    print("| plan | accuracy | deviation | against fp32, paired | bit-operations | BOPs | training loss, step 1000 or last | abandoned rounds "
          "| failed runs | changes of the plan |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in sorted(rows, key=lambda row: -points.get(row, (0, 0))[0]):
        runs = ended[name]
        paired = [run.accuracy - reference for run, reference in zip(rows[name], fp32) if run]
        failed = sum(run is None for run in rows[name]) + sum(difference < -FAILED_BELOW for difference in paired)
        if not runs:
            print(f"| {name} | no run ended |  |  |  |  |  |  | {failed} |  |")
            continue
        accuracy = [run.accuracy for run in runs]
        against = "" if name == "fp32" else f"{mean(paired):+.2f} +- {error(paired):.2f}"
        print(f"| {name}{' *' if name in best else ''} | {mean(accuracy):.2f} +- {error(accuracy):.2f} | {deviation(accuracy):.2f} | {against} "
              f"| {points[name][0]:.1f} % | {mean([run.bops for run in runs]):.1f} % | {mean([run.train_loss(1000) for run in runs]):.3f} "
              f"| {sum(run.abandoned for run in runs)} | {failed} | {mean([run.changes for run in runs]):.0f} |")


def schedules(rows):
    print("\nmean bits in thirds of the run (of the work forward and backward), and each layer's forward/backward bits, first and last third:\n")
    for name, all_runs in rows.items():
        runs = [run for run in all_runs if run]
        if all(run.changes == 0 for run in runs):
            continue
        thirds = [[] for _ in range(3)]
        for run in runs:
            count = len(run.rounds)
            for place, line in enumerate(run.rounds):
                thirds[min(3 * place // count, 2)].append((run, line))
        shape = " / ".join(f"{mean([run.mean_bits(line) for run, line in third]):.2f}" for third in thirds)
        print(f"- {name}: {shape}")
        names = [layer["name"] for layer in runs[0].layers(runs[0].rounds[0])]
        for third, label in ((thirds[0], "first"), (thirds[2], "last")):
            parts = []
            for place, layer in enumerate(names):
                both = [mean([run.bits(line, phase)[place] for run, line in third]) for phase in LOCAL]
                parts.append(f"{layer} {both[0]:.1f}/{both[1]:.1f}")
            print(f"  {label}: " + ", ".join(parts))


def ranks(values):
    order = sorted(range(len(values)), key=values.__getitem__)
    result = [0.0] * len(values)
    place = 0
    while place < len(order):
        end = place
        while end + 1 < len(order) and values[order[end + 1]] == values[order[place]]:
            end += 1
        for tied in order[place:end + 1]:
            result[tied] = (place + end) / 2
        place = end + 1
    return result


def spearman(x, y):
    a, b = ranks(x), ranks(y)
    if len(set(a)) < 2 or len(set(b)) < 2:
        return None
    return statistics.correlation(a, b)


def per_operation(layer):
    """What an allocation weighs: the error that rounding makes, for what a bit costs."""
    ops = layer.get("bit_ops")
    if layer.get("forward_sensitivity") is None or not ops:
        return None
    return layer["forward_sensitivity"] ** 2 / (ops["forward"] / layer["bits"]["forward"])


MEASURES = {"curvature": lambda layer: layer.get("curvature"),
            "forward_sensitivity": lambda layer: layer.get("forward_sensitivity"),
            "forward_sensitivity^2 per operation": per_operation}


def correlations(rows):
    """Spearman's rank correlation, over layers and measured rounds, of what was measured and the bits of the round after;
    curvature, where a policy does not measure it, is that of the policy "curvature" in the same round of the same seed."""
    print("\nrank correlation with the forward bits of the next round, over layers and rounds, mean and deviation over the seeds:\n")
    for name, all_runs in rows.items():
        runs = [run for run in all_runs if run]
        if all(run.changes == 0 for run in runs):
            continue
        for measure, value_of in MEASURES.items():
            found = []
            for run, curved in zip(all_runs, rows.get("curvature", all_runs)):
                if run is None or curved is None:
                    continue
                measured = curved if measure == "curvature" else run
                pairs = [(value_of(layer), after)
                         for line, following in zip(measured.rounds, run.rounds[1:])
                         for layer, after in zip(run.layers(line), run.bits(following, "forward")) if value_of(layer) is not None]
                value = spearman(*zip(*pairs)) if len(pairs) > 2 else None
                if value is not None:
                    found.append(value)
            if found:
                print(f"- {name}, {measure}: {mean(found):+.2f} +- {deviation(found):.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=0, help="how many of them (default: as many as have run in fp32)")
    arguments = parser.parse_args()
    for folder in sorted(path for path in arguments.out.iterdir() if path.is_dir()):
        seeds = arguments.seeds or seeds_of(folder)
        rows = load(folder, seeds)
        if seeds == 0 or "fp32" not in rows:
            print(f"{folder.name}: no fp32 runs of seeds 1 .. {max(seeds, 1)} to compare with")
            continue
        print(f"\n{folder.name}, {seeds} seeds, mean and standard error:\n")
        table(rows)
        schedules(rows)
        correlations(rows)


if __name__ == "__main__":
    main()
