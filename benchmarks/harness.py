"""What every benchmark shares: what was measured, when and where; fair timing; one result file a benchmark and machine.

timings = compare({"ours": ours, "numpy": theirs}, rounds=20)
write_result("gallery", {"timings": timings})
"""

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "commit",
    "compare",
    "machine",
    "peak_mb",
    "peak_rss_mb",
    "quartiles",
    "rss_mb",
    "versions",
    "write_result",
]

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """The processor, its cores open to us, the memory, the system; `slug` names it in file names."""
    cpu, memory_gb = platform.processor() or platform.machine(), None
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        cpu = found[1].strip() if found else cpu
        memory_gb = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    slug = "-".join([*re.findall(r"[a-z0-9]+", cpu.lower()), f"{cores}c"])
    return {
        "slug": slug,
        "cpu": cpu,
        "cores": cores,
        "memory_gb": memory_gb,
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions(*packages: str) -> dict[str, str | None]:
    """Python's and the named distributions' versions; None: not installed."""

    def of(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return {"python": platform.python_version(), **{package: of(package) for package in packages}}


def commit() -> str:
    """The commit measured, with `+` when tracked files differ from it."""

    def git(*arguments: str) -> str:
        run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return run.stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")


def rss_mb() -> float:
    """Resident memory of this process now, memory-mapped files included (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_rss_mb() -> float:
    """The most resident memory this process ever had (Linux, macOS)."""
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024  # bytes there, KiB here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def peak_mb() -> float:
    """The most resident memory since the peak was last cleared; `getrusage` would count the parent's, too (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


def quartiles(values: Sequence[float] | np.ndarray, digits: int) -> list[float]:
    """Lower, median, upper."""
    return [round(float(quartile), digits) for quartile in np.percentile(values, (25, 50, 75))]


def compare(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Time the functions in turn, `rounds` times each after one unmeasured call.

    Interleaved, so that a slow moment of a shared machine hits all of them alike.

    Returns:
        For each name: quartiles, 95th percentile and median of wall and CPU milliseconds; CPU time is this
        process's, over all its threads.
    """
    for function in functions.values():
        function()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            function()
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    report = {}
    for name, pairs in seconds.items():
        report[name] = {
            f"{clock}_ms_p{percent}": round(float(np.percentile(column, percent)) * 1e3, 4)
            for clock, column in zip(("wall", "cpu"), np.array(pairs).T, strict=True)
            for percent in (25, 50, 75, 95)
        }
    return report


def write_result(name: str, payload: Mapping[str, Any], *, packages: tuple[str, ...] = ("numpy",)) -> Path:
    """Write results/<name>--<machine>.json: `payload` below date, commit, machine and versions.

    Returns:
        The file's path, which is printed too.
    """
    place = machine()
    head = {"benchmark": name, "date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit()}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}--{place['slug']}.json"
    record = {**head, "machine": place, "versions": versions(*packages), **payload}
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    print(path)
    return path
