"""Redundant biases and folded norms of torchvision's networks and of one of every source file of timm.

    nice -n 15 python benchmarks/bench_bias.py            # goes on where it was stopped
    python benchmarks/bench_bias.py resnet18 densenet     # only names with these in them

Weights are random; BatchNorms get random statistics, scales (every third negative) and shifts, as fresh ones would be
folded even by doing nothing. `fold` runs at the network's own size, `redundant`, whose proof is in float64, on smaller
images where the network takes them. Beside it: how many BatchNorms torch.fx's fuse leaves, and whether it keeps the
outputs. Every network runs in a process of its own, with a limit on time and memory; what was not checked says why.
"""

import json
import multiprocessing
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import zip_longest
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from harness import write_result
from torch import nn
from torch.fx.experimental.optimization import fuse
from torch.nn.modules.batchnorm import _BatchNorm
from zoo import of_timm, of_torchvision, timm

from visavis.blocks import bias
from visavis.errors import InputError

PROGRESS = Path(tempfile.gettempdir()) / "bench_bias.jsonl"
FIRST = {f"torchvision/{name}" for name in ("densenet121", "maxvit_t")}
LARGEST = 210e6  # parameters
SECONDS, BYTES = 150, 7 * 2**30
SIDES = (64, 96)  # tried before the network's own size


def networks() -> Iterator[tuple[str, partial[nn.Module], int]]:
    """In turns, so that a run that is stopped has seen some of both; `FIRST`, then small ones first."""
    ours = sorted(of_torchvision(), key=lambda each: (each[1] not in FIRST, each[0]))
    theirs = (network for module in timm.list_modules() for network in of_timm(module, 4)[:1])
    for pair in zip_longest(ours, theirs):
        yield from (network[1:] for network in pair if network is not None)


def prepare(make: partial[nn.Module]) -> nn.Module:
    """The network with norms that do something."""
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, _BatchNorm) and norm.running_mean is not None:
                norm.running_mean.normal_(0, 0.1)
                norm.running_var.uniform_(0.5, 1.5)
                if norm.affine:
                    norm.weight.uniform_(0.5, 1.5)
                    norm.weight[::3] *= -1
                    norm.bias.normal_(0, 0.1)
    return model.eval()


def fx_fuse(model: nn.Module, norms: int, example: torch.Tensor) -> dict[str, Any]:
    """What torch's own fusion leaves."""
    try:
        fused = fuse(model)
        with torch.no_grad():
            expected, got = model(example), fused(example)
        left = sum(isinstance(module, _BatchNorm) for module in fused.modules())
        both = [next(iter(each.values())) if isinstance(each, dict) else each for each in (expected, got)]
        return {
            "folded": norms - left,
            "left": left,
            "error": float((both[0] - both[1]).abs().max() / both[0].abs().max()),
        }
    except Exception as error:
        return {"exception": f"{type(error).__name__}: {str(error)[:100]}"}


def row(make: partial[nn.Module], side: int) -> Iterator[dict[str, Any]]:
    """All that is said about one network, part by part."""
    with torch.device("meta"):
        try:
            size = sum(parameter.numel() for parameter in make().parameters())
        except Exception:  # it looks at numbers when it is made
            size = 0
    if size > LARGEST:
        yield {"exception": f"not run: {size / 1e6:.0f} M parameters"}
        return
    model = prepare(make)
    result: dict[str, Any] = {"parameters": sum(parameter.numel() for parameter in model.parameters())}
    norms = sum(isinstance(module, _BatchNorm) for module in model.modules())
    example = torch.randn(1, 3, side, side)
    start = time.process_time()
    try:
        _, report = bias.fold(model, example, leave_reused=True)
        result["fold"] = {
            "norms": norms,
            "how": Counter(each.how for each in report.folded),
            "left": report.left,
            "error": report.error,
        }
    except InputError as error:
        result["fold"] = {"norms": norms, "exception": str(error)[:300]}
    result["fold"]["seconds"] = round(time.process_time() - start, 2)
    result["fx"] = fx_fuse(model, norms, example) if norms else {"folded": 0, "left": 0, "error": 0.0}
    yield result
    start = time.process_time()
    for images in (*SIDES, side):
        try:
            report = bias.redundant(model, torch.randn(2, 3, images, images))
        except InputError as error:
            result["redundant"] = {"side": images, "exception": str(error)[:300]}
            continue
        result["redundant"] = {
            "side": images,
            "checked": report.checked,
            "found": Counter(f"{each.when}, mean" if each.part == "mean" else each.when for each in report.biases),
            "parameters": report.parameters,
            "change": report.change,
            "unproved": [each.name for each in report.unproved],
            "dtype": str(report.dtype),
        }
        break
    result["redundant"]["seconds"] = round(time.process_time() - start, 2)
    yield result


def work(make: partial[nn.Module], side: int, pipe: Connection) -> None:
    """In a process of its own."""
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    spent = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (spent + SECONDS, spent + SECONDS))
    try:
        for part in row(make, side):
            pipe.send(part)
    except Exception as error:  # goes into the result as what it is
        pipe.send({"exception": f"{type(error).__name__}: {str(error)[:200]}"})


def limited(make: partial[nn.Module], side: int) -> dict[str, Any]:
    """`row`, or why there is none."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=work, args=(make, side, sender))
    process.start()
    sender.close()
    found: dict[str, Any] = {}
    while True:
        try:
            found |= receiver.recv()
        except EOFError:
            break
    if "redundant" not in found and "exception" not in found:
        reason = {"exception": f"not finished in {SECONDS} s of CPU, or out of memory"}
        found |= {"redundant": reason} if "fold" in found else reason
    process.join()
    return found


def summarise(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Over all networks."""
    folds = {name: found["fold"] for name, found in rows.items() if "how" in found.get("fold", {})}
    biases = {name: found["redundant"] for name, found in rows.items() if "found" in found.get("redundant", {})}
    both = [name for name in folds if "folded" in rows[name]["fx"] and folds[name]["norms"]]
    reasons: Counter[str] = Counter()
    for fold in folds.values():
        reasons.update(reason.split("; ")[0].split(" in ")[0] for reason in fold["left"].values())
    return {
        "networks": len(rows),
        "folded networks": len(folds),
        "norms": sum(fold["norms"] for fold in folds.values()),
        "folded": sum((Counter(fold["how"]) for fold in folds.values()), Counter()),
        "left": sum(len(fold["left"]) for fold in folds.values()),
        "left because": dict(reasons.most_common()),
        "largest error": max((fold["error"] for fold in folds.values()), default=0.0),
        "networks fx also runs": len(both),
        "ours there": sum(sum(folds[name]["how"].values()) for name in both),
        "fx there": sum(rows[name]["fx"]["folded"] for name in both),
        "fx wrong": [name for name in both if not rows[name]["fx"]["error"] <= 1e-5],
        "networks with biases checked": len(biases),
        "biases": sum(found["checked"] for found in biases.values()),
        "redundant": sum((Counter(found["found"]) for found in biases.values()), Counter()),
        "redundant parameters": sum(found["parameters"] for found in biases.values()),
        "largest change": max((found["change"] for found in biases.values()), default=0.0),
        "unproved": {name: found["unproved"] for name, found in biases.items() if found["unproved"]},
        "not in float64": [name for name, found in biases.items() if found["dtype"] != "torch.float64"],
        "not folded": {
            name: found.get("exception") or found["fold"]["exception"]
            for name, found in rows.items()
            if name not in folds
        },
        "biases not checked": {
            name: found.get("exception") or found["redundant"]["exception"]
            for name, found in rows.items()
            if name not in biases
        },
    }


def main() -> None:
    """Measure what is missing, and write the result."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = {}
    if PROGRESS.exists():
        rows = dict(json.loads(line) for line in PROGRESS.read_text().splitlines())
    only = sys.argv[1:]
    for name, make, side in networks():
        if name in rows or (only and not any(part in name for part in only)):
            continue
        rows[name] = limited(make, side)
        print(name, rows[name], flush=True)
        with PROGRESS.open("a") as progress:
            progress.write(json.dumps([name, rows[name]]) + "\n")
        if len(rows) % 10 == 0:
            write(rows)
    write(rows)


def write(rows: dict[str, dict[str, Any]]) -> None:
    """All there is so far."""
    settings = {"largest_parameters": LARGEST, "cpu_seconds": SECONDS, "bytes": BYTES, "threads": 1}
    write_result(
        "bias",
        {"settings": settings, "summary": summarise(rows), "rows": rows},
        packages=("torch", "torchvision", "timm"),
    )


if __name__ == "__main__":
    main()
