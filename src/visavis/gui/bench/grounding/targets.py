"""Sets of targets on disk, in the form of ScreenSpot: a JSON list beside its pictures.

Every entry has ``img_filename``, ``instruction``, ``bbox`` as [x, y, width, height] in pixels, ``data_type`` ("text" or
"icon") and ``data_source``. ScreenSpot-Pro has [left, top, right, bottom] instead, and ``ui_type`` and ``application``
for the last two; an entry with ``ui_type`` is read that way.

Source: Cheng and others, SeeClick, arXiv:2401.10935; Wu and others, OS-ATLAS, arXiv:2410.23218 (version 2); Li and
others, ScreenSpot-Pro, arXiv:2504.07981.
"""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visavis.errors import InputError
from visavis.gui._files import write_whole

__all__ = ["Box", "Target", "load", "save"]

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to find."""

    instruction: str
    image: Path
    box_xyxy_px: Box
    kind: str = ""  # "text" or "icon"
    source: str = ""

    @property
    def side_px(self) -> float:
        """The shorter side of the box, which is what makes a target hard to hit."""
        left, top, right, bottom = self.box_xyxy_px
        return min(right - left, bottom - top)


def load(file: str | os.PathLike[str], *, images: str | os.PathLike[str] | None = None) -> list[Target]:
    """Read a set.

    Args:
        file: the JSON list.
        images: the folder of its pictures; by default that of the file, or ``images`` or ``screenspot_imgs`` in it.

    Raises:
        InputError: the file is no such list; the message names the first entry that is wrong, or the picture missing.
    """
    path = Path(file)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: expected a JSON list of targets; {error}") from None
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: expected a JSON list with at least one target")
    folders = [Path(images)] if images else [path.parent, path.parent / "images", path.parent / "screenspot_imgs"]
    return [_target(path, number, entry, folders) for number, entry in enumerate(entries)]


def _target(path: Path, number: int, entry: Any, folders: list[Path]) -> Target:
    where = f"{path}: entry {number}"
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected an object, got {type(entry).__name__}")
    for key in "instruction", "img_filename":
        if not (isinstance(entry.get(key), str) and entry[key]):
            raise InputError(f"{where}: {key}: expected a text, got {entry.get(key)!r}")
    box = entry.get("bbox")
    if not (isinstance(box, list) and len(box) == 4 and all(isinstance(side, (int, float)) for side in box)):
        raise InputError(f"{where}: bbox: expected four numbers, got {box!r}")
    left, top, right, bottom = map(float, box)
    if "ui_type" not in entry:
        right, bottom = left + right, top + bottom
    if not (0 <= left < right < math.inf and 0 <= top < bottom < math.inf):
        raise InputError(f"{where}: bbox: expected a box of some size that starts in the picture, got {box}")
    image = next(
        (folder / entry["img_filename"] for folder in folders if (folder / entry["img_filename"]).is_file()), None
    )
    if image is None:
        raise InputError(
            f"{where}: img_filename: {entry['img_filename']} is not in {folders[0]}; name its folder by `images`"
        )
    kind = entry.get("ui_type", entry.get("data_type", ""))
    source = entry.get("application", entry.get("data_source", ""))
    return Target(entry["instruction"], image, (left, top, right, bottom), str(kind), str(source))


def save(targets: Iterable[Target], file: str | os.PathLike[str]) -> None:
    """Write a set; pictures are named relative to the file, which is written whole or not at all."""
    path = Path(file)
    entries = []
    for target in targets:
        left, top, right, bottom = target.box_xyxy_px
        entries.append(
            {
                "img_filename": Path(os.path.relpath(target.image, path.parent)).as_posix(),
                "instruction": target.instruction,
                "bbox": [left, top, right - left, bottom - top],
                "data_type": target.kind,
                "data_source": target.source,
            }
        )
    write_whole(path, json.dumps(entries, ensure_ascii=False, indent=1).encode())
