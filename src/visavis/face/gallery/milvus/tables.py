"""A gallery's tables on Milvus: one collection each, rows as dicts, every write idempotent.

A collection must have a vector. Faces have their geometry as one; tables without any carry two zeros. Text that is
compared on the server stands there in hexadecimal, so that no name or path ever becomes part of an expression.
"""

import base64
import json
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.errors import GalleryError, MissingExtraError
from visavis.face.gallery.milvus.address import Address

__all__ = ["TABLES", "Key", "Row", "Server", "Table", "Tables", "Where", "client_library"]

Row = dict[str, Any]
Key = int | str

FORMAT, VERSION = "visavis gallery", 1
CALL_S = 30.0  # for one answer
PAGE = 16_384  # rows; Milvus gives no more at once
AMONG = 8_192  # values in one expression
TEXT_BYTES = 65_535  # the longest text Milvus holds
WRITE_BYTES = 4_000_000  # sent at once; a server takes 64 MB
NONE: list[float] = [0.0, 0.0]  # the vector of a row that has none


class Table(NamedTuple):
    key: type
    fields: Mapping[str, str | int]  # int: a vector of that length, 0: of the embeddings' length
    rows: int = PAGE  # to read at once


TABLES: dict[str, Table] = {
    "photo": Table(
        int,
        {
            "sha256": "text",
            "width_px": "int",
            "height_px": "int",
            "taken_at": "text",
            "partial": "bool",
            "settled": "bool",
        },
    ),
    "file": Table(str, {"photo_id": "int", "size_bytes": "int", "mtime_ns": "int", "skipped": "text"}),
    "person": Table(int, {"name": "text", "faces": "int", "best_face": "int"}),
    "separate": Table(str, {"person_a": "int", "person_b": "int"}),
    "face": Table(
        int,
        {
            "photo_id": "int",
            "geometry": 14,
            "score": "float",
            "residual_px": "float",
            "quality": "float",
            "person_id": "int",
            "pinned": "bool",
            "enrolled": "bool",
        },
    ),
    "vector": Table(int, {"embedding": 0}, 4_096),
    "thumbnail": Table(int, {"jpeg": "text"}, 1_024),
    "mark": Table(str, {"value": "text"}),
    "journal": Table(str, {"epoch": "int", "parts": "int", "payload": "text"}, 256),
}


class Where(NamedTuple):
    """Rows whose field has one of these values."""

    field: str
    values: Collection[Key]

    def matches(self, row: Row) -> bool:
        """Whether a row is one of them."""
        return row[self.field] in self.values

    def expressions(self) -> Iterator[str]:
        """For the server, each of some of the values; a row is met by one of them."""
        values = sorted(self.values)
        for start in range(0, len(values), AMONG):
            yield f"{self.field} in {json.dumps(values[start : start + AMONG])}"


def client_library() -> Any:
    """Milvus' client.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pymilvus  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError("pymilvus: expected it to be installed; pip install 'visavis[milvus]'") from error
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs what it raises
    return pymilvus


class Server:
    """A connection; its errors in the user's words.

    Raises:
        GalleryError: there is no server, or it lets nobody in with this token.
        MissingExtraError: the client is not installed.
    """

    def __init__(self, address: Address) -> None:
        pymilvus = client_library()
        self.address = address
        self._error = pymilvus.MilvusException
        with self.errors():
            self.client: Any = pymilvus.MilvusClient(
                address.uri, token=address.token, db_name=address.database, timeout=CALL_S, dedicated=True
            )

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raises GalleryError for what the client raises."""
        try:
            yield
        except self._error as error:
            text = " ".join(str(error.message).split())[:300]
            if self.address.token:
                text = text.replace(self.address.token, "...")
            raise GalleryError(f"{self.address.place}: Milvus: {text}") from error

    def names(self) -> list[str]:
        """All collections."""
        with self.errors():
            return list(self.client.list_collections(timeout=CALL_S))

    def rename(self, old: str, new: str) -> bool:
        """Whether this call, of all that may try at once, has given `old` its new name.

        The server renames one collection at a time, so it is a comparison and an exchange in one.
        """
        try:
            self.client.rename_collection(old, new, timeout=CALL_S)
        except self._error:  # the answer may have been lost: a name that nobody else uses tells
            return new in self.names()
        return True

    def create_empty(self, name: str, description: str = "") -> None:
        """Make a collection that will hold nothing; its name or description tells something."""
        pymilvus = client_library()
        schema = pymilvus.MilvusClient.create_schema(auto_id=False, description=description)
        schema.add_field("id", pymilvus.DataType.INT64, is_primary=True)
        schema.add_field("nothing", pymilvus.DataType.FLOAT_VECTOR, dim=len(NONE))
        with self.errors():
            self.client.create_collection(name, schema=schema, timeout=CALL_S)

    def drop(self, name: str) -> None:
        """Delete a collection."""
        with self.errors():
            self.client.drop_collection(name, timeout=CALL_S)

    def close(self) -> None:
        self.client.close()


class Tables:
    """The tables of one gallery.

    Args:
        server: where they are.
        prefix: of their names.
        dim: D.
        seen: the time on the server that reads must have reached; 0: now.
    """

    def __init__(self, server: Server, prefix: str, dim: int, seen: Callable[[], int]) -> None:
        self.server, self.prefix, self.dim = server, prefix, dim
        self._seen = seen
        self._written = 0  # the server's time of our last write
        self._deleted = False  # since, and nobody told when
        self._pool = ThreadPoolExecutor(len(TABLES), "visavis-milvus")
        self._lock = threading.Lock()

    def close(self) -> None:
        self._pool.shutdown()

    def create(self) -> None:
        """Make all tables, ready for use."""
        list(self._pool.map(self._create, TABLES))

    def drop(self) -> None:
        """Delete all tables."""
        for table in TABLES:
            self.server.drop(self._name(table))

    def together(self, *calls: Callable[[], Any]) -> list[Any]:
        """The answers to several questions asked at once."""
        return [future.result() for future in [self._pool.submit(call) for call in calls]]

    # Reading

    def select(self, table: str, where: Where | None = None, *, fields: Sequence[str] | None = None) -> list[Row]:
        """The rows that meet a condition, or all; `fields` besides the id: all when not given. In no order."""
        if where is None:
            return [row for page in self.pages(table, fields=fields) for row in page]
        rows: list[Row] = []
        for expression in where.expressions():
            rows += (row for page in self.pages(table, expression, fields=fields) for row in page)
        return rows

    def pages(
        self,
        table: str,
        expression: str = "",
        *,
        fields: Sequence[str] | None = None,
        after: Key | None = None,
        limit: int | None = None,
    ) -> Iterator[list[Row]]:
        """The rows that meet an expression by id, in pages of at most `limit`."""
        size = min(limit or PAGE, TABLES[table].rows)
        after = ("" if TABLES[table].key is str else -1) if after is None else after
        chosen = ["id", *(TABLES[table].fields if fields is None else fields)]
        while True:
            both = f"id > {json.dumps(after)}" + (f" and ({expression})" if expression else "")
            with self.server.errors():
                found = self.server.client.query(
                    self._name(table),
                    filter=both,
                    output_fields=chosen,
                    limit=size,
                    reduce_stop_for_best=True,  # newer servers: the lowest ids, not any
                    timeout=CALL_S,
                    **self._reach(),
                )
            rows = sorted((_read(dict(row)) for row in found), key=lambda row: row["id"])
            if rows:
                yield rows
                after = rows[-1]["id"]
            if len(rows) < size:
                return

    def count(self, table: str, expression: str = "") -> int:
        """How many rows meet an expression."""
        with self.server.errors():
            [row] = self.server.client.query(
                self._name(table),
                filter=expression,
                output_fields=["count(*)"],
                timeout=CALL_S,
                **self._reach(),
            )
        return int(row["count(*)"])

    def search(
        self, queries: NDArray[np.float32], limit: int, expression: str
    ) -> list[list[tuple[int, NDArray[np.float32], float]]]:
        """The nearest vectors of each query: id, embedding, and the similarity as the server has it."""
        with self.server.errors():
            found = self.server.client.search(
                self._name("vector"),
                data=queries.tolist(),
                limit=limit,
                filter=expression,
                output_fields=["embedding"],
                search_params={"metric_type": "IP"},
                timeout=4 * CALL_S,
                **self._reach(),
            )
        return [
            [(int(hit["id"]), np.array(hit["entity"]["embedding"], np.float32), float(hit["distance"])) for hit in hits]
            for hits in found
        ]

    # Writing

    def put(self, table: str, rows: Iterable[Row], *, within_s: Callable[[], float] = lambda: CALL_S) -> None:
        """Write rows in place of those of the same ids; `within_s` tells, or raises, how long a call may take."""
        sent: list[Row] = []
        size = 0
        for row in rows:
            sent.append(_written(table, row))
            size += _bytes(row)
            if size > WRITE_BYTES or len(sent) == PAGE:
                self._put(table, sent, within_s())
                sent, size = [], 0
        if sent:
            self._put(table, sent, within_s())

    def delete(self, table: str, ids: Iterable[Key], *, within_s: Callable[[], float] = lambda: CALL_S) -> None:
        """Delete the rows of these ids; those that are not there are passed over."""
        for expression in Where("id", set(ids)).expressions():
            with self.server.errors():
                done = self._handler().delete(
                    self._name(table), expression, timeout=within_s(), context=self._context()
                )
            self._note(done.timestamp)
            self._deleted = True

    def last_write(self, within_s: Callable[[], float]) -> int:
        """The server's time of our last write, deletions included, of which servers tell no time: a row comes after."""
        if self._deleted:
            self.put("mark", [{"id": "written", "value": ""}], within_s=within_s)
        return self._written

    def purge(self, tables: Iterable[str]) -> None:
        """Have the server write the tables again without the rows deleted; it drops what it had when it collects."""
        self.together(*(partial(self._purge, table) for table in tables))

    def _purge(self, table: str) -> None:
        from pymilvus.client.prepare import Prepare  # type: ignore[import-untyped]

        client, name = self.server.client, self._name(table)
        with self.server.errors():
            client.flush(name, timeout=4 * CALL_S)
            number = client.describe_collection(name)["collection_id"]
            # The client names the collection alone, and servers before 2.5 then compact all that there are.
            request = Prepare.manual_compaction(name, False, False, number)
            self._handler()._stub.ManualCompaction(request, timeout=CALL_S)

    def _put(self, table: str, rows: list[Row], timeout_s: float) -> None:
        with self.server.errors():
            done = self._handler().upsert_rows(self._name(table), rows, timeout=timeout_s, context=self._context())
        self._note(done.timestamp)

    def _note(self, timestamp: int) -> None:
        with self._lock:
            self._written = max(self._written, timestamp)
            self._deleted = False

    def _reach(self) -> dict[str, Any]:
        seen = self._seen()
        return (
            {"consistency_level": "Customized", "guarantee_timestamp": seen}
            if seen
            else {"consistency_level": "Strong"}
        )

    def _handler(self) -> Any:
        return self.server.client._get_connection()  # the calls above it keep a write's time to themselves

    def _context(self) -> Any:
        return self.server.client._generate_call_context()

    def _name(self, table: str) -> str:
        return f"{self.prefix}_{table}"

    def _create(self, table: str) -> None:
        pymilvus = client_library()
        types = pymilvus.DataType
        kinds = {"int": types.INT64, "bool": types.BOOL, "float": types.DOUBLE}
        key, fields, _ = TABLES[table]
        schema = pymilvus.MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        if key is int:
            schema.add_field("id", types.INT64, is_primary=True)
        else:
            schema.add_field("id", types.VARCHAR, is_primary=True, max_length=TEXT_BYTES)
        vector = "nothing"
        for field, kind in fields.items():
            if isinstance(kind, int):
                vector = field
                schema.add_field(field, types.FLOAT_VECTOR, dim=kind or self.dim)
            elif kind == "text":
                schema.add_field(field, types.VARCHAR, max_length=TEXT_BYTES)
            else:
                schema.add_field(field, kinds[kind])
        if vector == "nothing":
            schema.add_field(vector, types.FLOAT_VECTOR, dim=len(NONE))
        index = pymilvus.MilvusClient.prepare_index_params()
        index.add_index(vector, index_type="FLAT", metric_type="IP")  # compares with every vector: exact
        with self.server.errors():
            client = self.server.client
            client.create_collection(self._name(table), schema=schema, consistency_level="Strong", timeout=CALL_S)
            client.create_index(self._name(table), index, timeout=CALL_S)
            client.load_collection(self._name(table), timeout=4 * CALL_S)


def _bytes(row: Row) -> int:
    """About what a row takes on the way."""
    return 100 + sum(
        len(value) * 4 if isinstance(value, np.ndarray) else len(value)
        for value in row.values()
        if hasattr(value, "__len__")
    )


def _written(table: str, row: Row) -> Row:
    """A row as the server takes it."""
    sent = dict(row)
    if table == "thumbnail":
        sent["jpeg"] = base64.b64encode(row["jpeg"]).decode()
    if not any(isinstance(kind, int) for kind in TABLES[table].fields.values()):
        sent["nothing"] = NONE
    return sent


def _read(row: Row) -> Row:
    """A row as it was put."""
    if "jpeg" in row:
        row["jpeg"] = base64.b64decode(row["jpeg"])
    for field in ("embedding", "geometry"):
        if field in row:
            row[field] = np.array(row[field], np.float32)
    return row
