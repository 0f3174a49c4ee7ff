"""TOML read strictly: every key is asked for, and what nobody asked for is refused by name."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from visavis.errors import ModelError

__all__ = ["Table", "read_toml"]


class Table:
    """One table of a TOML file. Keys are taken out one by one; `close` refuses those that are left.

    Each method raises ModelError, ``FILE: path.to.key: expected X, got Y``, when the value is missing or does
    not fit.
    """

    def __init__(self, where: str, values: Any) -> None:
        if not isinstance(values, dict):
            raise ModelError(f"{where}: expected a table, got {values!r}")
        self.where = where
        self._left = dict(values)
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def path(self, key: str) -> str:
        return f"{self.where}{'.' if ': ' in self.where else ': '}{key}"

    def take(self, key: str, wanted: str, fits: Callable[[Any], bool], default: Any = None) -> Any:
        """The value of `key`; without a default the key must be there."""
        self._known.append(key)
        if key not in self._left:
            if default is None:
                raise ModelError(f"{self.path(key)}: expected {wanted}, got nothing")
            return default
        value = self._left.pop(key)
        if not fits(value):
            raise ModelError(f"{self.path(key)}: expected {wanted}, got {value!r}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        return str(self.take(key, "a text", lambda v: isinstance(v, str) and v != "", default))

    def choice(self, key: str, *choices: str) -> str:
        return str(self.take(key, " or ".join(choices), lambda v: isinstance(v, str) and v in choices))

    def whole(self, key: str) -> int:
        return int(self.take(key, "a positive whole number", lambda v: type(v) is int and v > 0))

    def flag(self, key: str, default: bool | None = None) -> bool:
        return bool(self.take(key, "true or false", lambda v: isinstance(v, bool), default))

    def hexdigest(self, key: str) -> str:
        """Of the algorithm that ends the key's name."""
        digits = 96 if key.endswith("sha384") else 64
        wanted = f"{digits} lower-case hexadecimal digits"
        pattern = f"[0-9a-f]{{{digits}}}"
        return str(self.take(key, wanted, lambda v: isinstance(v, str) and re.fullmatch(pattern, v) is not None))

    def table(self, key: str) -> "Table":
        return Table(self.path(key), self.take(key, "a table", lambda v: isinstance(v, dict)))

    def tables(self, key: str, default: list[Any] | None = None) -> list["Table"]:
        values = self.take(key, "a list of tables", lambda v: isinstance(v, list), default)
        return [Table(f"{self.path(key)}[{i}]", value) for i, value in enumerate(values)]

    def tables_by_name(self) -> dict[str, "Table"]:
        return {key: self.table(key) for key in list(self._left)}

    def close(self) -> None:
        for key in self._left:
            known = ", ".join(self._known)
            raise ModelError(f"{self.where}: expected only the keys {known}, got {key!r}")


def read_toml(path: Path, name: str) -> Table:
    """The root table of a file; `name` stands for the file in messages."""
    try:
        return Table(name, tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ModelError(f"{name}: expected a readable file, got {error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{name}: expected TOML in UTF-8, got {error}") from None
