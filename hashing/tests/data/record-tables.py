#!/usr/bin/env python3
"""Writes the golden data of keys, rendezvous, maglev and the slot rings, beside this script.

An implementation of its own, from the module documentation and the contract alone: Python's hashlib and exact
integers, the platform's logarithm, and xxHash's reference C code through the package `xxhash` (recorded with
its release 4.1.0, which holds xxHash 0.8.4). It is not run by the tests; run it to see that what is recorded is what is documented:

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install xxhash && /tmp/venv/bin/python record-tables.py
"""

import hashlib
import math
from pathlib import Path

import xxhash

HERE = Path(__file__).parent


def seed(text):
    return int.from_bytes(text.encode(), "big")


def xxh3(data, text):
    return xxhash.xxh3_64_intdigest(data, seed=seed(text))


def le4(number):
    return number.to_bytes(4, "little")


def write(name, header, rows):
    lines = [f"# {header}; recorded by record-tables.py"] + [",".join(map(str, row)) for row in rows]
    (HERE / name).write_text("\n".join(lines) + "\n")


def keys():
    weights = [1, 1, 1]
    owners = [rendezvous(weights, range(65536)), maglev(weights)]

    def hashed(data):
        """The hash, and slot and owner among three equals in both tables."""
        key = xxh3(data, "slipring")
        routes = [f"{slot}:{table[slot]}" for table in owners for slot in [key * len(table) >> 64]]
        return f"{key:016x}", *routes

    # XXH3 takes another path for each class of lengths: 0, 1-3, 4-8, 9-16, 17-128, 129-240, longer.
    for length in [0, 1, 3, 4, 8, 9, 16, 17, 64, 128, 129, 240, 241, 1024, 5000]:
        data = bytes(i * 7 % 251 for i in range(length))
        yield "bytes", length, *hashed(data)
    for request in [0, 1, 234, 100000, 999999, 2**32 - 1]:
        yield "id", request, *hashed(le4(request))


def rendezvous(weights, slots):
    """The owner's number for each of `slots`; weights are by number - 1."""

    def cost(slot, number):
        top = xxh3(le4(slot) + le4(number), "rendezvs") >> 12
        return -math.log((2 * top + 1) / 2**53) / weights[number - 1]

    return [min(range(1, len(weights) + 1), key=lambda n: (cost(slot, n), n)) for slot in slots]


def maglev(weights):
    """Eisenbud 2016, section 3.4, with Envoy's turns."""
    m = 65537
    n = len(weights)
    offset = [xxh3(le4(i + 1), "mlv-offs") % m for i in range(n)]
    skip = [xxh3(le4(i + 1), "mlv-skip") % (m - 1) + 1 for i in range(n)]
    position, taken, entry, filled, turn = [0] * n, [0.0] * n, [None] * m, 0, 0
    while True:
        turn += 1
        for i in range(n):
            if turn * weights[i] < taken[i]:
                continue
            taken[i] += max(weights)
            while entry[(offset[i] + position[i] * skip[i]) % m] is not None:
                position[i] += 1
            entry[(offset[i] + position[i] * skip[i]) % m] = i + 1
            filled += 1
            if filled == m:
                return entry


def digest(owners):
    return hashlib.sha256(b"".join(le4(owner) for owner in owners)).hexdigest()


def tables():
    for weights in [[1, 1, 1], [1] * 10, [1, 2, 0.5, 4, 1]]:
        spelled = " ".join(map(str, weights))
        for name, owners in [("rendezvous", rendezvous(weights, range(65536))), ("maglev", maglev(weights))]:
            yield name, spelled, " ".join(map(str, owners[:64])), digest(owners)


def rings():
    def sha(value):
        return int.from_bytes(hashlib.sha256(value.to_bytes((value.bit_length() + 7) // 8, "big")).digest(), "big")

    given = lambda i: i * i + 2 * i + 17
    given_server = lambda i, j: i * i + j * j + 2 * j + 25
    pairs = {
        "given": (given, given_server),
        "modified": (
            lambda i: 1427 * i * i + 2503 * i + 2003,
            lambda i, j: 1249 * i * i + 2287 * j * j + 1663 * j + 2287,
        ),
        "sha256": (lambda i: sha(given(i)), lambda i, j: sha(given_server(i, j))),
    }
    ids = [0, 12, 234, 1012, 100000, 234280, 999999, 2**32 - 1]
    for pair, (request, server) in pairs.items():
        for probing in ["linear", "quadratic"]:
            holder = {}
            for i in range(1, 21):
                for j in range(1, 10):
                    home = server(i, j)
                    steps = [k * k for k in range(512)] if probing == "quadratic" else []
                    free = next(s for k in steps + list(range(512)) if (s := (home + k) % 512) not in holder)
                    holder[free] = i
            occupied = " ".join(f"{slot}:{holder[slot]}" for slot in sorted(holder))
            requests = " ".join(f"{i}:{request(i) % 512}" for i in ids)
            yield pair, probing, requests, occupied


write("keys.csv", "kind,id or length (bytes i * 7 % 251),XXH3-64,slot:owner of 3 by rendezvous,by maglev", keys())
write("tables.csv", "placement,weights,owners of the first 64 slots,SHA-256 of all owners as 4 little-endian bytes", tables())
write("rings.csv", "pair,probing,request id:slot,the occupied slot:number of 20 replicas", rings())
