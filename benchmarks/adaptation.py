"""Measure what a new plan costs an adaptation step.

The network is Swin-T's backbone with two images of 256 x 704. A step is forward, backward and
optimiser.

    python benchmarks/adaptation.py --out benchmarks/results/adaptation_cpu.json

Every plan that is drawn from the search's space runs three steps in a row. ``new`` is the first
step under the plan. ``known`` is the mean of the two steps that follow and compute as much.
``overhead`` is how much longer the new steps took in all. The last line is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import torch

from sparsevit3d import SparseSwin
from sparsevit3d.files import write_json
from sparsevit3d.swin.plan import sample_plan


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plans", type=int, default=30, help="how many plans to draw")
    parser.add_argument("--out", type=Path, help="keep the JSON here too")
    options = parser.parse_args()
    net = SparseSwin(
        embed_dims=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), window_size=7
    ).train()
    optimiser = torch.optim.AdamW(net.parameters(), 1e-5)
    images = torch.randn(2, 3, 256, 704)

    def step() -> float:
        start = time.perf_counter()
        optimiser.zero_grad()
        sum(feature.square().mean() for feature in net(images)).backward()
        optimiser.step()
        return time.perf_counter() - start

    for _ in range(3):
        step()
    draw = random.Random(0)
    rows = []
    for _ in range(options.plans):
        net.plan = sample_plan(draw, net.depths)
        new, *known = (step() for _ in range(3))
        rows.append({"plan": str(net.plan), "new_s": new, "known_s": sum(known) / 2})
    new, known = (sum(row[key] for row in rows) for key in ("new_s", "known_s"))
    result = {
        "plans": len(rows),
        "new_s": new,
        "known_s": known,
        "overhead": new / known - 1,
        "rows": rows,
    }
    print(
        f"{len(rows)} plans: {new:.1f} s under new ones, {known:.1f} s under known ones: "
        f"{result['overhead']:+.1%}"
    )
    if options.out:
        write_json(options.out, result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
