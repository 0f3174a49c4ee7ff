"""Writes a pack as the TOML that `load_pack` reads."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from visavis.face.models.sources import HttpsSource, NpmSource, PathSource, PypiSource, Source
from visavis.face.models.spec import ModelFile, ModelSpec, Pack, models

__all__ = ["pack_toml"]

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def pack_toml(pack: Pack, folder: Path) -> str:
    """The TOML of a pack, to be put into `folder`: read from there, `load_pack` gives a pack of the same models.

    A model of the manifest is named, every other described in full. Files inside `folder` are named relative to it, so
    that the folder can be moved; others by their full path. The pack's name is not in the text: it is the file's.
    """
    named, tables = [], []
    for role, spec in (("detector", pack.detector), ("embedder", pack.embedder), ("liveness", pack.liveness)):
        if spec is None:
            continue
        if models().get(spec.name) == spec:
            named.append(f"{role} = {_text(spec.name)}")
        else:
            tables += ["", *_model(role, spec, folder)]
    if pack.calibration is not None:
        named.append(f"calibration = {_text(_path(pack.calibration, folder))}")
    return "\n".join([*named, *tables]).lstrip("\n") + "\n"


def _model(key: str, spec: ModelSpec, folder: Path) -> Iterator[str]:
    licence = spec.licence
    terms = {"name": licence.name, "url": licence.url, "notes": licence.notes}
    parts = [f"{name} = {_text(value)}" for name, value in terms.items() if value]
    parts += ["research_only = true"] if licence.research_only else []
    yield f"[{key}]"
    yield f"name = {_text(spec.name)}"
    yield f"kind = {_text(spec.kind)}"
    yield f"licence = {{ {', '.join(parts)} }}"
    yield f"colour = {_text(spec.input.colour)}"
    if spec.role != "detector":
        yield f"width = {spec.input.width}"
        yield f"height = {spec.input.height}"
    yield f"mean = {_numbers(spec.input.mean)}"
    yield f"scale = {_numbers(spec.input.scale)}"
    if isinstance(spec.template, str):
        yield f"template = {_text(spec.template)}"
    elif spec.template is not None:
        yield f"template = [{', '.join(map(_numbers, spec.template))}]"
    if spec.dim is not None:
        yield f"dim = {spec.dim}"
    if spec.flip:
        yield "flip = true"
    if spec.role == "liveness":
        yield f"crop = {spec.crop}"
        yield f"threshold = {spec.threshold}"
    if spec.outputs:
        yield f"outputs = [{', '.join(map(_text, spec.outputs))}]"
    for variant in spec.variants:
        yield ""
        yield f"[[{key}.variants]]"
        for file in variant:
            yield from _file(f"{key}.variants.files", file, folder)


def _file(key: str, file: ModelFile, folder: Path) -> Iterator[str]:
    algorithm, _, digits = file.digest.partition(":")
    yield f"[[{key}]]"
    yield f"name = {_text(file.name)}"
    yield f"size = {file.size}"
    yield f"{algorithm} = {_text(digits)}"
    yield f"sources = [{', '.join(_source(source, folder) for source in file.sources)}]"


def _source(source: Source, folder: Path) -> str:
    match source:
        case HttpsSource():
            values = {"https": source.url}
        case PypiSource():
            values = {
                "pypi": f"{source.package}=={source.version}",
                "member": source.member,
                "archive_sha256": source.archive_sha256,
            }
        case NpmSource():
            values = {"npm": f"{source.package}@{source.version}", "member": source.member}
        case PathSource():
            values = {"path": _path(source.path, folder)}
    parts = [f"{name} = {_text(value)}" for name, value in values.items()]
    if isinstance(source, PypiSource):
        parts.append(f"binary = {'true' if source.binary else 'false'}")
    return f"{{ {', '.join(parts)} }}"


def _path(path: Path, folder: Path) -> str:
    path, folder = (Path(os.path.abspath(each)) for each in (path, folder))  # noqa: PTH100 - links stay as they are
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(map(repr, values))}]"


def _text(text: str) -> str:
    r"""A TOML string.

    >>> print(_text('a "b"\\c\n\x7f'))
    "a \"b\"\\c\n\u007F"
    """
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else _escaped(c)) for c in text) + '"'


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
