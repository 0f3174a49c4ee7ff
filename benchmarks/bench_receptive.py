"""Receptive fields of torchvision's networks and of timm's, in time and against the networks themselves.

    nice -n 15 python benchmarks/bench_receptive.py            # goes on where it was stopped

Of torchvision all classification and segmentation networks, of timm the smallest of every module of its source, and the
second smallest of as many as make 110. `seconds`: CPU time of `fields` without weights (device "meta"). `equal`: every
position of every layer agreed with every forward pass on NaNs, with random weights. What was not checked says why.
"""

import gc
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import write_result
from torch import nn
from zoo import of_timm, of_torchvision, timm

from visavis.blocks import receptive
from visavis.errors import InputError

PROGRESS = Path(tempfile.gettempdir()) / "bench_receptive.jsonl"
FORWARDS, FORWARDS_LARGE = 20, 8  # of networks up to `LARGE` parameters, and above
LARGE, LARGEST = 10e6, 250e6  # beyond the largest nothing is run
TIMM = 110


def networks() -> dict[str, tuple[Callable[[], nn.Module], int]]:
    """By name, what makes it, and the side of its images; small networks first."""
    found = of_torchvision()
    firsts, seconds = [], []
    for module in timm.list_modules():
        sized = of_timm(module, 8)
        firsts += sized[:1]
        seconds += sized[1:2]
    seconds.sort(key=lambda each: each[0])
    found += [*firsts, *seconds][:TIMM]
    return {name: (make, side) for _, name, make, side in sorted(found, key=lambda each: each[0])}


def row(make: Callable[[], nn.Module], side: int) -> dict[str, Any]:
    """All that is said about one network."""
    shape = (3, side, side)
    try:
        with torch.device("meta"):
            model, without = make(), True
    except Exception:
        model, without = make(), False
    start = time.process_time()
    try:
        found = receptive.fields(model, shape)
    except InputError as error:
        if not without:
            return {"exception": str(error)}
        model, without = make(), False  # a network that looks at its own weights while it runs
        start = time.process_time()
        found = receptive.fields(model, shape)
    seconds = time.process_time() - start
    finite = [layer.axes[0].size for layer in found.layers.values() if layer.axes[0].size is not None]
    result = {
        "side": side,
        "without weights": without,
        "seconds": round(seconds, 3),
        "layers": len(found),
        "output": found.output.axes[0].size or "whole image",
        "largest finite": max(finite, default=0),
        "notes": list(found.notes),
    }
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if parameters > LARGEST:
        return {**result, "exception": f"not run: {parameters / 1e6:.0f} M parameters"}
    torch.manual_seed(0)
    with_weights = replace(found, model=make())
    verified = with_weights.verify(forwards=FORWARDS if parameters <= LARGE else FORWARDS_LARGE)
    return {
        **result,
        "equal": verified.equal,
        "forwards": verified.forwards,
        "checks": verified.checks,
        "pinned": verified.pinned,
        "ends": verified.ends,
        "silent": len(verified.silent),
        "mismatches": [
            f"{bad.layer} axis {bad.axis} at {bad.position}, NaN in {bad.nan_positions}, predicted {bad.predicted}"
            for bad in verified.mismatches[:5]
        ],
    }


def main() -> None:
    """Measure what is missing, and write the result."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = {}
    if PROGRESS.exists():
        rows = dict(json.loads(line) for line in PROGRESS.read_text().splitlines())
    only = sys.argv[1:]
    for name, (make, side) in networks().items():
        if name in rows or (only and not any(part in name for part in only)):
            continue
        try:
            rows[name] = row(make, side)
        except Exception as error:  # goes into the result as what it is
            rows[name] = {"exception": f"{type(error).__name__}: {str(error)[:300]}"}
        print(name, rows[name], flush=True)
        with PROGRESS.open("a") as progress:
            progress.write(json.dumps([name, rows[name]]) + "\n")
        gc.collect()
    times = [found["seconds"] for found in rows.values() if found.get("without weights")]
    summary = {
        "networks": len(rows),
        "median seconds": statistics.median(times),
        "largest seconds": max(times),
        "equal": sum(found.get("equal") is True for found in rows.values()),
        "different": [name for name, found in rows.items() if found.get("equal") is False],
        "not checked": {name: found["exception"] for name, found in rows.items() if "exception" in found},
        "with notes": {name: found["notes"] for name, found in rows.items() if found.get("notes")},
    }
    summary["torchvision"] = sum(name.startswith("torchvision/") and "equal" in found for name, found in rows.items())
    summary["timm"] = sum(name.startswith("timm/") and "equal" in found for name, found in rows.items())
    settings = {"forwards": [FORWARDS, FORWARDS_LARGE], "large_parameters": LARGE, "threads": 1}
    payload = {"settings": settings, "summary": summary, "rows": rows}
    write_result("receptive", payload, packages=("torch", "torchvision", "timm"))


if __name__ == "__main__":
    main()
