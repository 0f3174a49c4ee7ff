"""What a set of targets made of npm packages holds, and how many of them are hit by a player who looks at nothing.

    python benchmarks/bench_grounding.py FOLDER...

Each folder is an unpacked package, or the folder in it where its site begins; of gentelella that is `dist`.
"""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import quartiles, write_result

from visavis.gui.bench.grounding import Hit, Middle, Target, generate, play, shares


def counted(targets: list[Target], hits: list[Hit]) -> dict[str, Any]:
    """A row of the table."""
    kinds = {kind: sum(target.kind == kind for target in targets) for kind in ("text", "icon")}
    if not targets:
        return {"targets": 0, **kinds}
    sides = quartiles([target.side_px for target in targets], 1)
    return {"targets": len(targets), **kinds, "side_px": sides, "middle": asdict(shares(targets, hits)["all"])}


def package(folder: Path) -> dict[str, Any]:
    """Name and version of the package that a folder is of."""
    file = next(file for file in (folder / "package.json", folder.parent / "package.json") if file.exists())
    return dict(json.loads(file.read_text()))


def main() -> None:
    """Make the set, play it, count."""
    folders = [Path(name).resolve() for name in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as place:
        targets = generate(folders, Path(place) / "set", progress=lambda done, of: print(done, of, end="\r"))
        hits = play(Middle(), targets)
    sources = {}
    pages = 0
    for folder in folders:
        described = package(folder)
        own = [number for number, target in enumerate(targets) if target.source == described["name"]]
        count = len(list(folder.rglob("*.html")))
        row = counted([targets[number] for number in own], [hits[number] for number in own])
        sources[described["name"]] = {"version": described["version"], "pages": count, **row}
        pages += count
    sources["all"] = {"version": "", "pages": pages, **counted(targets, hits)}
    write_result("grounding", {"sources": sources}, packages=("websockets", "pillow"))


if __name__ == "__main__":
    main()
