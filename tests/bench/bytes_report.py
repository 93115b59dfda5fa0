#!/usr/bin/env python3
"""The runs that tests/bench/bytes.sh keeps, as Markdown: what codecs cost in bytes and in accuracy; and their accuracy
per megabyte, round by round, in OUT/curves.tsv and, where gnuplot is there, in OUT/bytes.png.

    tests/bench/bytes_report.py OUT
"""
import argparse
import json
import math
import pathlib
import shutil
import statistics
import subprocess

LAST = 5  # evaluations whose mean is less noisy than the last one


def error(values):
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


class Run:
    def __init__(self, folder):
        self.summary = json.loads((folder / "summary.json").read_text())
        rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
        self.curve = []  # megabytes so far, accuracy
        total = 0
        for line in rounds:
            total += line["bytes_up"] + line["bytes_down"]
            if line["test_accuracy"] is not None:
                self.curve.append((total / 1e6, 100 * line["test_accuracy"]))

    final = property(lambda self: self.curve[-1][1])
    last = property(lambda self: statistics.fmean(accuracy for _, accuracy in self.curve[-LAST:]))
    megabytes = property(lambda self: (self.summary["bytes_up"] + self.summary["bytes_down"]) / 1e6)
    up = property(lambda self: self.summary["bits_per_coordinate_up"])
    down = property(lambda self: self.summary["bits_per_coordinate_down"])


def load(folder):
    """{row: {seed: run}} of the runs that are done."""
    rows = {}
    for path in sorted(folder.iterdir()):
        if (path / "summary.json").exists():
            name, seed = path.name.rsplit("-", 1)
            rows.setdefault(name.replace("_", "/"), {})[int(seed)] = Run(path)
    return rows


def paired(row, raw, value):
    differences = [value(row[seed]) - value(raw[seed]) for seed in sorted(row.keys() & raw.keys())]
    return f"{statistics.fmean(differences):+.2f} +- {error(differences):.2f}" if differences else "-"


def table(name, rows):
    raw = rows.get("raw", {})
    mean = lambda row, value: statistics.fmean(value(run) for run in row.values())
    print(f"\n### {name}\n")
    print("| uplink | seeds | last model | difference | mean of the last five | difference | bits up | bits down | MB | fewer |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    whole = mean(raw, lambda run: run.megabytes) if raw else math.nan
    for row in sorted(rows, key=lambda row: -mean(rows[row], lambda run: run.megabytes)):
        runs = rows[row]
        megabytes = mean(runs, lambda run: run.megabytes)
        cells = [row, len(runs), f"{mean(runs, lambda run: run.final):.2f}", paired(runs, raw, lambda run: run.final),
                 f"{mean(runs, lambda run: run.last):.2f}", paired(runs, raw, lambda run: run.last),
                 f"{mean(runs, lambda run: run.up):.3f}", f"{mean(runs, lambda run: run.down):.3f}",
                 f"{megabytes:.2f}", f"{whole / megabytes:.0f} x"]
        print("| " + " | ".join(map(str, cells)) + " |")


def curves(rows):
    """Of each row the mean curve: (megabytes, accuracy)."""
    for row, runs in rows.items():
        length = min(len(run.curve) for run in runs.values())
        yield row, [tuple(statistics.fmean(run.curve[i][k] for run in runs.values()) for k in (0, 1)) for i in range(length)]


def draw(out, jobs):
    with open(out / "curves.tsv", "w") as file:
        for job, rows in jobs.items():
            for row, points in curves(rows):
                file.write(f'\n\n"{job} {row}"\n' if file.tell() else f'"{job} {row}"\n')
                file.writelines(f"{megabytes:.4f}\t{accuracy:.3f}\n" for megabytes, accuracy in points)
    if not shutil.which("gnuplot"):
        print("\n(no gnuplot, no picture)")
        return
    lines = [f"set terminal pngcairo size {620 * len(jobs)},460 font 'sans,10'", f"set output '{out / 'bytes.png'}'",
             f"set multiplot layout 1,{len(jobs)}", "set logscale x", "set xlabel 'megabytes, both directions'",
             "set ylabel 'test accuracy, %'", "set key bottom right", "set grid"]
    block = 0
    for job, rows in jobs.items():
        lines.append(f"set title '{job}'")
        plots = [f"'{out / 'curves.tsv'}' index {block + i} with lines lw 2 title '{row}'" for i, row in enumerate(rows)]
        block += len(rows)
        lines.append("plot " + ", ".join(plots))
    subprocess.run(["gnuplot"], input="\n".join(lines), text=True, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    out = parser.parse_args().out
    jobs = {path.name: load(path) for path in sorted(out.iterdir()) if path.is_dir()}
    jobs = {name: rows for name, rows in jobs.items() if rows}
    for name, rows in jobs.items():
        table(name, rows)
    draw(out, jobs)


if __name__ == "__main__":
    main()
