"""Galleries on a Milvus server, for tests: a server a module, one gallery that is emptied again and again."""

import pytest

from tests.face import milvus_server
from tests.face.small_gallery import MODEL
from visavis.face.gallery import open_gallery
from visavis.face.gallery.copying import COPIED, pages

__all__ = ["empty", "milvus", "server", "server_folder"]


@pytest.fixture(scope="module")
def server_folder(tmp_path_factory):
    """Where a server keeps its data."""
    return tmp_path_factory.mktemp("milvus")


@pytest.fixture(scope="module")  # for an idle server takes a third of a core
def server(server_folder):
    """The beginning of the URLs of a server's galleries; where none can run, the test skips."""
    reason = milvus_server.why_not()
    if reason is not None:
        pytest.skip(reason)
    with milvus_server.running(server_folder) as port:
        yield f"milvus://127.0.0.1:{port}"


@pytest.fixture
def milvus(server):
    """The URL of a gallery that is empty."""
    empty(f"{server}/tests")
    return f"{server}/tests"


def empty(url: str) -> None:
    """Make a gallery, or delete all that it holds; its ids go on."""
    with open_gallery(url, model=MODEL) as gallery:
        rows = gallery.rows()
        with rows.writing():
            for table in reversed(COPIED):
                for page in list(pages(rows, table)):
                    rows.delete(table, [row["id"] for row in page])
