"""The benchmark of the service, for a moment and with drawn faces: load while indexing, and `kill -9` amid changes."""

import pytest

from benchmarks.bench_serve import killed, loaded, scattered
from tests.app.server_client import gallery, png

__all__ = ["gallery"]  # a fixture

pytestmark = pytest.mark.slow
PHOTOS = [png(person, seed=person) for person in range(8)]


def test_clients_ask_while_a_folder_is_indexed(gallery, squares, tmp_path):
    folder = scattered(tmp_path / "many", PHOTOS, 500)
    found = loaded(gallery, folder, PHOTOS, clients=8, seconds=10, pack=squares)
    assert found["statuses"].keys() == {"200"}
    assert found["endpoints"].keys() == {"identify", "people", "search", "thumbnail"}
    assert found["index"]["state"] in ("running", "done")  # how far it is, nobody can promise
    assert found["decoder_deaths"] == 0
    assert 0 < found["memory_mb"]["server"]["most"] < 2000


def test_nothing_acknowledged_is_lost_by_a_kill(gallery, squares, tmp_path):
    folder = scattered(tmp_path / "few", PHOTOS, 60)
    found = killed(gallery, folder, PHOTOS, kills=2, clients=4, pack=squares)
    assert found["kills"] == 2
    assert any(status.endswith(("200", "201", "202")) for status in found["statuses"])
    assert not [status for status in found["statuses"] if status.split()[1].startswith("5")]
