"""Networks by name: `module:factory`, a file and a name in it, or a model of timm. To build one runs its code."""

import ast
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from visavis.errors import InputError, MissingExtraError

__all__ = ["load", "parse_arguments", "prepare_torchvision"]


def load(name: str, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """Import what `name` says and build the network.

    What the user's code prints goes to standard error, as standard output is for the answer.

    Args:
        name: "package.module:factory", "folder/net.py:factory", or "timm:model". The factory is a class or a function
            that gives an nn.Module, or is one.
        arguments: what the factory is called with.

    Raises:
        InputError: it does not import, is not there, or gives no network; the message names the cause.
        MissingExtraError: timm or torchvision is wanted and not installed.

    >>> load("torch.nn:Linear", {"in_features": 2, "out_features": 3})
    Linear(in_features=2, out_features=3, bias=True)
    """
    arguments = arguments or {}
    place, colon, factory_name = name.rpartition(":")
    if not (place and colon and factory_name):
        raise InputError(
            "model: expected module:factory, file.py:factory or timm:name, as torchvision.models:resnet18, "
            f"got {name!r}"
        )
    with redirect_stdout(sys.stderr):
        module = _import(place)
        if place == "timm":
            known = module.list_models()
            if factory_name.partition(".")[0] not in known:
                near = get_close_matches(factory_name, known, n=3)
                hint = f"; near it are {', '.join(near)}" if near else ""
                raise InputError(f"model: expected the name of a model of timm, got {factory_name!r}{hint}")
            model = _build(lambda **options: module.create_model(factory_name, **options), name, arguments)
        else:
            factory = _find(module, factory_name)
            if place.partition(".")[0] == "torchvision" and "weights_backbone" in signature(factory).parameters:
                arguments = {"weights_backbone": None, **arguments}  # else it is fetched
            model = _build(factory, name, arguments)
    if not isinstance(model, nn.Module):
        raise InputError(f"model: expected {name} to give a torch.nn.Module, got {type(model).__name__}")
    return model


def parse_arguments(texts: list[str]) -> dict[str, Any]:
    """What was given as ``key=value``: a value is a Python literal, or else a text.

    >>> parse_arguments(["width=64", "pool=avg", "sizes=(1, 2)"])
    {'width': 64, 'pool': 'avg', 'sizes': (1, 2)}
    """
    arguments: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key.isidentifier() and equals):
            raise InputError(f"arg: expected key=value, as width=64, got {text!r}")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[key] = value
    return arguments


def _import(place: str) -> ModuleType:
    path = Path(place)
    is_file = path.suffix == ".py" or path.parent != Path()
    if is_file and not path.is_file():
        raise InputError(f"model: expected a Python file, got {place!r}, which is none")
    if place.split(".")[0] in ("timm", "torchvision"):
        prepare_torchvision()
    try:
        with _importable(path.resolve().parent if is_file else Path.cwd()):
            return _run_file(path) if is_file else importlib.import_module(place)
    except (Exception, SystemExit) as error:  # the user's code raises whatever it likes
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if missing in ("timm", "torchvision"):
            raise MissingExtraError(
                f"{missing}: expected it to be installed, as {place} is of it or needs it; pip install {missing}"
            ) from error
        raise InputError(f"model: expected {place} to import, got {_cause(error)}") from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Find modules in a folder first, as `python file.py` does."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _run_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses and pickle look there
    spec.loader.exec_module(module)
    return module


def prepare_torchvision() -> None:
    """Let torchvision import beside another build of torch than it was compiled for.

    Its compiled operators do not load then, and it fails at describing the first. Its networks do not use them:
    it suffices that their names are known.
    """
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return  # told by whoever needs it
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _find(module: ModuleType, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            near = get_close_matches(part, [each for each in dir(found) if not each.startswith("_")], n=3)
            hint = f"; near it are {', '.join(near)}" if near else ""
            raise InputError(f"model: expected a name in {module.__name__}, got {name!r}, which it has not{hint}")
        found = getattr(found, part)
    return found


def _build(factory: Any, name: str, arguments: Mapping[str, Any]) -> Any:
    if isinstance(factory, nn.Module) and not arguments:
        return factory
    if not callable(factory) or isinstance(factory, nn.Module):
        given = " that takes arguments" if arguments else ""
        raise InputError(f"model: expected {name} to be a class or function{given}, got {type(factory).__name__}")
    try:
        return factory(**arguments)
    except (Exception, SystemExit) as error:
        raise InputError(f"model: expected {name} to build a network, got {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    """An exception's kind, message and the place in the user's code."""
    reason = str(error).strip().split("\n", 1)[0]
    frames = traceback.extract_tb(error.__traceback__)
    last = next((frame for frame in reversed(frames) if "importlib" not in frame.filename), frames[-1])
    where = f" at {last.filename}:{last.lineno}" if last.filename != __file__ else ""
    return f"{type(error).__name__}: {reason}{where}"
