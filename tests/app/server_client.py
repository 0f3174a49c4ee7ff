"""A service on a gallery of drawn faces, and clients of it, for the tests of the server."""

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.face.fake_pack import photo, pixels
from visavis.app.server.application import API, http_server, make_app
from visavis.app.server.decoding import Limits
from visavis.app.server.guard import Rules
from visavis.app.server.service import Service
from visavis.face.system import FaceSystem

__all__ = ["API", "client", "gallery", "png", "running", "service"]

WHO = (0, 0, 0, 1, 1, 2)  # in the photos of the gallery: ada, 1, bob, 2, and somebody alone
LIMITS = Limits(pixels=2_000_000, seconds=30)
EASY = Rules(per_second=1e6, burst=10**6)


def png(*people: int, seed: int = 99) -> bytes:
    """A photo of drawn people, as it is uploaded."""
    stream = io.BytesIO()
    Image.fromarray(pixels(*people, seed=seed)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def gallery(tmp_path: Path, photos: Path, squares: Path) -> Path:
    """Its folder; ada has a name."""
    for number, person in enumerate(WHO):
        photo(photos / f"{number}.png", person)
    with FaceSystem.open(tmp_path / "g.visavis", pack=squares) as system:
        system.index(photos)
        system.name(1, "Ada")
    return tmp_path / "g.visavis"


@pytest.fixture
def service(gallery: Path, photos: Path, squares: Path) -> Iterator[Service]:
    service = Service(gallery, pack=squares, roots=[photos.resolve()], limits=LIMITS, upload_bytes=2**20)
    yield service
    service.close()


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    """Of an owner: with a token for everything."""
    token = service.tokens.add("owner", "admin")
    with TestClient(make_app(service, EASY), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


@contextmanager
def running(app: Any) -> Iterator[tuple[int, Any]]:
    """The port of a real server of the application in a thread, and what uvicorn knows of its connections."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = http_server(app)
        server.config.timeout_graceful_shutdown = 1
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1], server.server_state
        finally:
            server.should_exit = True
            thread.join()
