#!/usr/bin/env python3
"""Deals a data set in MNIST's files to several folders, one a node: image i goes to node i mod NODES.

    split_idx.py FROM TO NODES [IMAGES]     TO/1 .. TO/NODES; of the first IMAGES training images, all by default

The test files are copied whole: nodes do not use them, but a folder has all four. Files may end in .gz.
"""
import gzip
import pathlib
import struct
import sys


def read(folder, name):
    packed = folder / (name + ".gz")
    return gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / name).read_bytes()


def deal(content, nodes, limit):
    """The parts of an IDX file (magic 00 00 08 RANK, then RANK big-endian extents, then bytes)."""
    rank = content[3]
    extents = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    item = 1
    for extent in extents[1:]:
        item *= extent
    count = min(extents[0], limit or extents[0])
    items = memoryview(content)[4 + 4 * rank :]
    for node in range(nodes):
        mine = range(node, count, nodes)
        header = content[:4] + struct.pack(f">{rank}I", len(mine), *extents[1:])
        yield header + b"".join(items[i * item : (i + 1) * item] for i in mine)


def main():
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    source, target, nodes = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
    limit = int(sys.argv[4]) if len(sys.argv) == 5 else 0
    for node in range(1, nodes + 1):
        (target / str(node)).mkdir(parents=True, exist_ok=True)
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        for node, part in enumerate(deal(read(source, name), nodes, limit), 1):
            (target / str(node) / name).write_bytes(part)
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        for node in range(1, nodes + 1):
            (target / str(node) / name).write_bytes(read(source, name))


if __name__ == "__main__":
    main()
