"""Data sets that the field measures by, read into one record: which photos, of whom, and what is compared.

Rows: what is compared is a template, a row of `people`; it is one photo, but for IJB, where it may be many.
Shapes: N photos, T templates, P pairs.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError
from visavis.face.evaluate.pairs import all_pairs
from visavis.face.photos import PHOTO_SUFFIXES, looks_like_photo, visible_files

__all__ = ["KINDS", "Kind", "PairList", "Protocol", "Search", "read_groups", "read_protocol"]

Kind = Literal["auto", "lfw", "cfp", "ijb", "folder"]
KINDS: tuple[Kind, ...] = ("auto", "lfw", "cfp", "ijb", "folder")
_IJB_COLUMNS = {"template", "person", "media", "path"}
_LFW_SUFFIXES = (".jpg", ".png", ".jpeg", ".ppm")


@dataclass(frozen=True, slots=True, eq=False)
class PairList:
    """For verification."""

    name: str
    rows: NDArray[np.int64]  # [P, 2] templates
    folds: NDArray[np.int64] | None = None  # [P]


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """For identification; all are templates."""

    name: str
    gallery: NDArray[np.int64]  # one for everybody
    probes: NDArray[np.int64]
    known: NDArray[np.int64]  # those of the gallery that are enrolled for the open set


@dataclass(frozen=True, slots=True, eq=False)
class Protocol:
    kind: Kind
    photos: list[Path]  # [N], absolute
    templates: NDArray[np.int64]  # [N] the template each photo is of
    media: NDArray[np.int64]  # [N] frames of one video share a number
    people: list[str]  # [T] whom a template shows
    pairs: list[PairList]
    searches: list[Search] = field(default_factory=list)


def read_protocol(data: Path, *, kind: Kind = "auto", max_pairs: int = 1_000_000, seed: int = 0) -> Protocol:
    """Read a data set.

    - ``lfw``: a folder with ``pairs.txt`` and with the photos, ``NAME/NAME_0001.jpg``, in it or in a folder below;
      or a file of that format, for example ``pairsDevTest.txt``. Its header is the number of folds and of pairs
      of either kind in each, or the latter alone for one fold.
    - ``cfp``: the folder with ``Protocol`` and ``Data`` of Celebrities in Frontal-Profile.
    - ``ijb``: a CSV with the columns template, person, media and path, the paths relative to it; or a folder with one
      named ``templates.csv``. All pairs of templates are compared, and the first template of everybody is enrolled.
    - ``folder``: a sub-folder for every person, with their photos at any depth. All pairs are compared, and the first
      photo of everybody, by name, is enrolled.

    For the open set half of the people are enrolled: of CFP the first 250, else drawn by `seed`.

    Args:
        data: folder or file.
        kind: auto looks for what tells one of the four.
        max_pairs: of one person, and of two people; of more, a sample is drawn by `seed`.
        seed: of all draws.

    Raises:
        InputError: not such a data set; says what is missing and how to mend it.
    """
    data = data.expanduser().absolute()
    if not data.exists():
        raise InputError(f"data: expected a folder or file that exists, got {str(data)!r}")
    kind = _kind(data) if kind == "auto" else kind
    if kind == "lfw":
        return _lfw(data / "pairs.txt" if data.is_dir() else data)
    if kind == "cfp":
        return _cfp(data)
    if kind == "ijb":
        return _ijb(data / "templates.csv" if data.is_dir() else data, max_pairs, seed)
    return _folder(data, max_pairs, seed)


def read_groups(path: Path, people: Sequence[str]) -> dict[str, str]:
    """The group of each person: a CSV with the columns person and group; people it does not name have none.

    Raises:
        InputError: not such a file, somebody in two groups, or nobody of `people` in it.
    """
    groups: dict[str, str] = {}
    for line, row in _table(path, {"person", "group"}):
        if groups.setdefault(row["person"], row["group"]) != row["group"]:
            raise InputError(f"{path.name}:{line}: expected one group for {row['person']!r}, got another before")
    found = {name: groups[name] for name in dict.fromkeys(people) if name in groups}
    if not found:
        raise InputError(
            f"{path.name}: expected people of the data, such as {people[0]!r}, got only others, "
            f"such as {next(iter(groups), None)!r}"
        )
    return found


def _kind(data: Path) -> Kind:
    if data.is_file():
        return "ijb" if data.suffix.lower() == ".csv" else "lfw"
    if (data / "pairs.txt").is_file():
        return "lfw"
    if (data / "Protocol" / "Split").is_dir():
        return "cfp"
    if (data / "templates.csv").is_file():
        return "ijb"
    return "folder"


def _lfw(path: Path) -> Protocol:
    text = _text(path, "the list of pairs of LFW")
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    header = lines[0][1] if lines else []
    if len(header) not in (1, 2) or not all(word.isdecimal() and int(word) for word in header):
        raise InputError(
            f"{path.name}:1: expected the number of folds and of pairs in each, or of pairs, got {' '.join(header)!r}"
        )
    folds, count = (1, int(header[0])) if len(header) == 1 else (int(header[0]), int(header[1]))
    if len(lines) != 1 + 2 * folds * count:
        raise InputError(f"{path.name}: expected {2 * folds * count} pairs after its header, got {len(lines) - 1}")
    photos: dict[tuple[str, int], int] = {}
    rows, fold_of = [], []
    for place, (number, words) in enumerate(lines[1:]):
        same = place % (2 * count) < count  # in a fold the pairs of one person come first
        wanted = "NAME NUMBER NUMBER" if same else "NAME NUMBER NAME NUMBER"
        numbers = [words[1], words[-1]] if len(words) == (3 if same else 4) else []
        names = words[0:3:2] if len(words) == 4 else words[:1]
        plain = all(Path(name).name == name != ".." for name in names)  # no way out of the folder
        if not (numbers and plain and all(word.isdecimal() for word in numbers) and (same or names[0] != names[1])):
            raise InputError(f"{path.name}:{number}: expected {wanted}, got {' '.join(words)!r}")
        keys = (names[0], int(words[1])), (names[-1], int(words[-1]))
        rows.append([photos.setdefault(key, len(photos)) for key in keys])
        fold_of.append(place // (2 * count))
    people = [name for name, _ in photos]
    pairs = PairList(
        "LFW" if path.name == "pairs.txt" else path.stem, np.array(rows), np.array(fold_of) if folds > 1 else None
    )
    return _single("lfw", _lfw_photos(path, list(photos)), people, [pairs])


def _lfw_photos(path: Path, keys: list[tuple[str, int]]) -> list[Path]:
    """The files of (name, number); they lie beside the list, or in a folder or two below."""
    roots = [path.parent, *sorted(path.parent.glob("*/")), *sorted(path.parent.glob("*/*/"))]
    root = next((root for root in roots if (root / keys[0][0]).is_dir()), path.parent)
    files, missing = [], []
    for name, number in keys:
        stem = root / name / f"{name}_{number:04d}"
        file = next((file for suffix in _LFW_SUFFIXES if (file := stem.with_name(stem.name + suffix)).is_file()), None)
        if file is None:
            missing.append(f"{name}/{name}_{number:04d}.jpg")
        else:
            files.append(file)
    _refuse_missing(
        path, missing, len(keys), "put the folder of photos beside it, or take the list that belongs to them"
    )
    return files


def _cfp(data: Path) -> Protocol:
    photos: list[Path] = []
    first_profile = 0
    for letter in "FP":
        path = data / "Protocol" / f"Pair_list_{letter}.txt"
        first_profile = len(photos)
        for number, line in enumerate(_text(path, "a list of CFP's photos").splitlines(), 1):
            words = line.split()
            if len(words) != 2:
                raise InputError(f"{path.name}:{number}: expected NUMBER PATH, got {line!r}")
            photos.append((path.parent / words[1]).resolve())
    missing = [str(photo) for photo in photos if not photo.is_file()]
    _refuse_missing(data / "Protocol", missing, len(photos), "unpack CFP's Data and Protocol into one folder")
    lists = []
    for name in ("FF", "FP"):
        rows, folds = [], []
        for folder in sorted((data / "Protocol" / "Split" / name).glob("[0-9]*")):
            for kind in ("same", "diff"):
                path = folder / f"{kind}.txt"
                for pair in _text(path, "CFP's pairs").split():
                    words = pair.split(",")
                    if len(words) != 2 or not all(word.isdecimal() and int(word) for word in words):
                        raise InputError(f"{name}/{folder.name}/{path.name}: expected NUMBER,NUMBER, got {pair!r}")
                    first, second = (int(word) - 1 for word in words)
                    rows.append((first, second + (first_profile if name == "FP" else 0)))
                    folds.append(int(folder.name))
        if not rows or max(max(row) for row in rows) >= len(photos):
            raise InputError(
                f"Protocol/Split/{name}: expected pairs of the {len(photos)} photos listed, got {len(rows)} pairs"
            )
        lists.append(PairList(name, np.array(rows), np.array(folds)))
    people = [photo.parts[-3] for photo in photos]
    order = np.arange(len(photos))
    gallery = np.unique(people[:first_profile], return_index=True)[1]
    known = gallery[: (len(gallery) + 1) // 2]
    probes = (np.setdiff1d(order[:first_profile], gallery), order[first_profile:])
    searches = [Search(name, gallery, rows, known) for name, rows in zip(("frontal", "profile"), probes, strict=True)]
    return _single("cfp", photos, people, lists, searches)


def _ijb(path: Path, max_pairs: int, seed: int) -> Protocol:
    photos, templates, media, missing = [], [], [], []
    names: dict[str, str] = {}  # of templates to people
    places: dict[str, int] = {}  # of templates
    numbers: dict[str, int] = {}  # of media
    for line, row in _table(path, _IJB_COLUMNS):
        if names.setdefault(row["template"], row["person"]) != row["person"]:
            raise InputError(f"{path.name}:{line}: expected one person in template {row['template']!r}, got two")
        photo = path.parent / row["path"]
        if not photo.is_file():
            missing.append(row["path"])
        photos.append(photo)
        templates.append(places.setdefault(row["template"], len(places)))
        media.append(numbers.setdefault(row["media"], len(numbers)))
    _refuse_missing(path, missing, len(photos), "its paths are relative to the folder it lies in")
    people = list(names.values())
    rows = _every_pair(people, max_pairs, seed, "templates")
    return Protocol(
        "ijb", photos, np.array(templates), np.array(media), people, rows, _first_enrolled("templates", people, seed)
    )


def _folder(data: Path, max_pairs: int, seed: int) -> Protocol:
    photos, people = [], []
    for folder in sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for path in filter(_is_photo, visible_files(folder)):
            photos.append(path)
            people.append(folder.name)
    if len(set(people)) < 2:
        layouts = "or give the folder of LFW (with pairs.txt), of CFP (with Protocol), or a CSV of templates"
        raise InputError(
            f"data: expected a sub-folder of photos for each of two people or more, got {len(set(people))} in "
            f"{str(data)!r}; make one, {layouts}"
        )
    pairs = _every_pair(people, max_pairs, seed, "photos")
    return _single("folder", photos, people, pairs, _first_enrolled("first photo enrolled", people, seed))


def _is_photo(path: Path) -> bool:
    """Also what is only named like one: damaged, it is a photo that gives no face."""
    if path.suffix.lower() in PHOTO_SUFFIXES:
        return True
    with path.open("rb") as file:
        return looks_like_photo(file.read(32))


def _single(
    kind: Kind, photos: list[Path], people: list[str], pairs: list[PairList], searches: Sequence[Search] = ()
) -> Protocol:
    """Every photo is a template."""
    count = len(photos)
    return Protocol(kind, photos, np.arange(count), np.zeros(count, np.int64), people, pairs, list(searches))


def _every_pair(people: list[str], max_pairs: int, seed: int, what: str) -> list[PairList]:
    return [PairList(f"all pairs of {what}", all_pairs(np.array(people), max_pairs=max_pairs, seed=seed))]


def _first_enrolled(name: str, people: list[str], seed: int) -> list[Search]:
    """The first of everybody is enrolled, the others are asked about; for the open set half of the people are."""
    gallery = np.unique(np.array(people), return_index=True)[1]
    probes = np.setdiff1d(np.arange(len(people)), gallery)
    known = np.sort(np.random.default_rng(seed).permutation(gallery)[: (len(gallery) + 1) // 2])
    return [Search(name, gallery, probes, known)]


def _table(path: Path, columns: set[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV with their lines; no cell is empty."""
    reader = csv.DictReader(_text(path, "a CSV").splitlines(), strict=True)
    if not columns <= set(reader.fieldnames or ()):
        raise InputError(f"{path.name}:1: expected the columns {', '.join(sorted(columns))}, got {reader.fieldnames}")
    rows = []
    for row in reader:
        if not all(row[column] for column in columns):
            raise InputError(
                f"{path.name}:{reader.line_num}: expected a value in every column, got {list(row.values())}"
            )
        rows.append((reader.line_num, row))
    if not rows:
        raise InputError(f"{path.name}: expected a row or more below the columns, got none")
    return rows


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected {what}, got none ({error})") from error


def _refuse_missing(path: Path, missing: list[str], count: int, cure: str) -> None:
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise InputError(f"{path.name}: expected its {count} photos, got {len(missing)} missing: {shown}; {cure}")
