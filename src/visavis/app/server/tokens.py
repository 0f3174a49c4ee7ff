"""Who may ask: tokens of 256 random bits, of which a gallery's folder keeps the hashes, beside the faces they guard."""

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from visavis.app.files import draft_of
from visavis.errors import GalleryError, InputError

__all__ = ["SCOPES", "Scope", "Token", "Tokens"]

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)  # each may do what those before it may
FILE_NAME = "tokens.json"
SETTLED_NS = 10**9
MOST_DAYS = 3650
PREFIX = "visavis_"  # so that scanners for leaked secrets, and people, know one


@dataclass(frozen=True, slots=True)
class Token:
    name: str
    scope: Scope
    sha256: str  # of the secret: of 256 random bits no slower hash is needed
    created_at: str
    expires_at: str | None = None  # None: never

    def may(self, scope: Scope) -> bool:
        """Whether it opens what needs `scope`."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


class Tokens:
    """The tokens of one gallery; what another process adds or revokes counts at once."""

    def __init__(self, folder: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._path, self._now = folder / FILE_NAME, now
        self._seen: tuple[int, int] | None = None  # of the file that was read last
        self._tokens: dict[str, Token] = {}  # by hash

    def all(self) -> list[Token]:
        """By name.

        Raises:
            GalleryError: the file is damaged.
        """
        return sorted(self._read().values(), key=lambda token: token.name)

    def add(self, name: str, scope: Scope, *, days: int | None = None) -> str:
        """Make a token, which expires after so many days. Its secret is the answer, and is kept nowhere.

        Raises:
            InputError: the name is taken or no name, or `days` is out of range.
        """
        if not (name.strip() and name.isprintable() and len(name) <= 100):
            raise InputError(f"name: expected printable text, 100 letters at most, got {name!r}")
        if days is not None and not 1 <= days <= MOST_DAYS:
            raise InputError(f"days: expected 1 to {MOST_DAYS}, got {days}")
        tokens = self.all()
        if name in {token.name for token in tokens}:
            raise InputError(f"name: expected one that no token has, got {name!r}; revoke that one first")
        secret = PREFIX + secrets.token_urlsafe(32)
        made = self._now()
        end = None if days is None else (made + timedelta(days)).isoformat(timespec="seconds")
        self._write([*tokens, Token(name, scope, _hash(secret), made.isoformat(timespec="seconds"), end)])
        return secret

    def revoke(self, name: str) -> None:
        """End a token.

        Raises:
            InputError: none has that name.
        """
        tokens = self.all()
        left = [token for token in tokens if token.name != name]
        if len(left) == len(tokens):
            raise InputError(f"name: expected that of a token, got {name!r}")
        self._write(left)

    def find(self, secret: str) -> Token | None:
        """The token of a secret, unless it has expired.

        It is looked up by its hash, whose timing tells nothing about the secret.
        """
        token = self._read().get(_hash(secret))
        if token is not None and token.expires_at is not None:
            return token if self._now() < datetime.fromisoformat(token.expires_at) else None
        return token

    def _read(self) -> dict[str, Token]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return {}
        seen = (status.st_ino, status.st_mtime_ns)
        # Within a tick of the file system's clock it may change again and look the same.
        if seen != self._seen or time.time_ns() - status.st_mtime_ns < SETTLED_NS:
            try:
                values: list[dict[str, Any]] = json.loads(self._path.read_bytes())
                tokens = [Token(**value) for value in values]
                if any(token.scope not in SCOPES for token in tokens):
                    raise ValueError("another scope")
                for token in tokens:
                    datetime.fromisoformat(token.expires_at or token.created_at)
            except (TypeError, ValueError) as error:
                raise GalleryError(f"{self._path}: expected the tokens of a gallery, got other content") from error
            self._tokens = {token.sha256: token for token in tokens}
            self._seen = seen
        return self._tokens

    def _write(self, tokens: list[Token]) -> None:
        with draft_of(self._path) as draft:
            draft.write_bytes(json.dumps([asdict(token) for token in tokens], indent=1).encode())


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
