"""What comes to do harm is refused with an error, and the server answers the next request as ever."""

import hashlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest
from fastapi import WebSocketDisconnect
from fastapi.testclient import TestClient

from tests.app.hostile_files import MARKUP, bombs, no_photos, png_bomb, polyglots
from tests.app.server_client import API, EASY, client, gallery, png, running, service
from visavis.app.cli import main
from visavis.app.server import decoding
from visavis.app.server.application import make_app, rules_for, serve
from visavis.app.server.decoding import Decoders, Limits, TooLargeError
from visavis.app.server.guard import Rules
from visavis.app.server.roots import RootError, allowed_folder
from visavis.app.server.tokens import Tokens
from visavis.errors import GalleryError, InputError, PhotoError

__all__ = ["client", "gallery", "service"]  # fixtures

pytestmark = pytest.mark.usefixtures("in_process")


def failed(answer, status, kind=None):
    """The message of an error, which must be of this status; no page may run anything of it."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert kind in (None, error["type"])
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    return error["message"]


def strangers(service, rules=EASY, **options):
    """A client without a token."""
    app = make_app(service, rules)
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False, **options)


# Uploads


def test_hostile_files(client, service):
    files = bombs() | no_photos() | {"long.png": png(0) + bytes(2**20)}
    harmless = ("strips.tif", "text.png", "profile.png")  # what swells is not looked at, or not all of it
    for name, data in files.items():
        for path in ("/identify", "/search"):
            answer = client.post(API + path, files={"photo": (name, data)})
            if name in harmless and answer.status_code == 200:
                continue
            assert answer.status_code in (413, 422), name
            message = failed(answer, answer.status_code)
            assert message.startswith("photo 1: ")
            assert "scratch-" not in message  # where uploads lie
            assert "x-injected" not in answer.headers
        kept = client.post(f"{API}/photos", files={"photos": (name, data)}).json()["photos"]
        assert name in harmless or kept[0]["state"] == "refused"
    assert service.decoders.deaths == 0  # none of these ends a decoder
    assert client.post(f"{API}/identify", files={"photo": ("ok", png(0))}).json()[0]["name"] == "Ada"


def test_photos_that_are_something_else_as_well_are_shown_as_photos_only(client, service):
    for name, data in polyglots().items():
        assert client.post(f"{API}/identify", files={"photo": (name, data)}).json()[0]["name"] == "Ada", name
        made = client.post(f"{API}/photos", files={"photos": (name, data)}).json()
        assert made["photos"][0]["state"] == "stored", name
    wait_for(lambda: all(job.ended for job in service.jobs.all()))
    photos = client.get(f"{API}/photos", params={"after": 6}).json()["photos"]
    assert len(photos) == len(polyglots())
    for photo in photos:
        [face] = client.get(f"{API}/photos/{photo['id']}/faces").json()
        for path in (f"/photos/{photo['id']}/picture", f"/faces/{face['id']}/thumbnail"):
            picture = client.get(API + path)
            assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
            assert picture.headers["x-content-type-options"] == "nosniff"
            assert b"alert" not in picture.content
            assert b"PK\3\4" not in picture.content


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture
def decode():
    """Decodes with so much time and memory, by one process, which is at hand as `decode.process()`."""
    made = []

    def run(data, **limits):
        if limits or not made:
            made.append(Decoders(1, Limits(**{"pixels": 10**6, "seconds": 60} | limits)))
        return made[-1].decode(data, Path("/x"), long_side_px=12_000)

    run.process = lambda: made[-1]._free.queue[0]
    yield run
    for decoders in made:
        decoders.close()


def test_a_decoder_that_dies_is_started_again(decode, monkeypatch):
    assert decode(png(0)).pixels.shape == (192, 192, 3)
    process = decode.process()
    with monkeypatch.context() as patch:
        patch.setattr(type(process), "has_ended", lambda _self: False)  # it ends right after
        process._process.kill()
        with pytest.raises(PhotoError, match="decoding it ended the process"):
            decode(png(0))
    assert decode(png(0)).photo.width_px == 192
    decode.process()._process.kill()
    decode.process()._process.wait()
    assert decode(png(0)).photo.width_px == 192  # which is not to blame
    with pytest.raises(TooLargeError, match="expected at most 1 megapixels, got 2000 x 1000"):
        decode(png_bomb(2000, 1000))


LIES = {
    "no JSON": "b'{'",
    "no object": "b'[]'",
    "no end of its line": "b'x' * (1 << 27)",
    "nothing more": "b'{}'",
    "deeply nested": "b'[' * 60_000",
    "negative sides": "facts(shape=[-1, -1])",
    "sides beyond its photo": "facts(shape=[4000, 4000])",
    "sides beyond any number": "facts(shape=[2**40, 2**40])",
    "another kind of side": "facts(shape=['1', None])",
    "more pixels than asked for": "facts(width_px=10**5, height_px=10**5)",
    "no pixels": "facts(width_px=0)",
    "half the pixels": "facts()[:-1]",
    "another scale": "facts(scale=2.0)",
    "no number": "facts(scale=float('nan'))",
    "another date": "facts(taken_at='yesterday')",
}
LIAR = """
import json, sys
def facts(**other):
    said = {{"width_px": 8, "height_px": 8, "scale": 1.0, "shape": [8, 8], "taken_at": None}} | other
    return json.dumps(said).encode() + b"\\n" + bytes(192)
print('"ready"', flush=True)
sys.stdin.buffer.readline()
sys.stdout.buffer.write({answer})
"""


@pytest.mark.parametrize("lie", LIES)
def test_a_decoder_that_lies_is_not_believed(decode, monkeypatch, lie):
    monkeypatch.setattr(decoding, "COMMAND", (sys.executable, "-c", LIAR.format(answer=LIES[lie])))
    with pytest.raises(PhotoError, match="decoding it ended the process"):
        decode(png(0))


def test_a_decoder_is_believed_what_can_be_true(decode, monkeypatch):
    monkeypatch.setattr(decoding, "COMMAND", (sys.executable, "-c", LIAR.format(answer="facts()")))
    assert decode(b"photo").photo.sha256 == hashlib.sha256(b"photo").hexdigest()


def test_a_decoder_that_hangs_is_ended(decode):
    decode(png(0), seconds=30)
    os.kill(decode.process()._process.pid, signal.SIGSTOP)
    decode.process()._limits = Limits(seconds=0.2)
    with pytest.raises(PhotoError, match=r"photo: decoding it took longer than 0\.2 s"):
        decode(png(0))
    assert decode(png(0)).photo.width_px == 192


def test_a_decoder_gets_so_much_memory(decode):
    photo = png_bomb(12_000, 12_000)
    with pytest.raises(PhotoError, match="more memory than there is|ended the process"):
        decode(photo, pixels=10**9, memory_bytes=900 * 2**20)
    assert decode(png(0)).photo.width_px == 192
    assert decode(photo, pixels=10**9, memory_bytes=4 * 2**30).photo.width_px == 12_000


def test_a_body_is_counted_while_it_comes(service):
    rules = Rules(body_bytes=1000)
    with strangers(service, rules) as client:

        def pieces():
            for _ in range(100):
                yield b"x" * 100

        kind = {"content-type": "multipart/form-data; boundary=x"}
        failed(client.post(f"{API}/identify", content=pieces(), headers=kind), 413, "TooLargeError")
        failed(client.post(f"{API}/identify", files={"photo": ("x", bytes(2000))}), 413, "TooLargeError")
        failed(client.post(f"{API}/identify", content=b"photo=x", headers={"content-type": "text/plain"}), 415)


def test_bodies_and_numbers_beyond_reason_are_422(client):
    for path in (f"/people/{2**70}", "/people/-1", "/people/x", f"/photos?after={2**64}", "/photos?limit=100000"):
        failed(client.get(API + path), 422, "RequestError")
    for body in ({"others": [2**70]}, {"others": []}, {"others": [1], "more": 1}, {"others": "1"}, [], None):
        failed(client.post(f"{API}/people/1/merge", json=body), 422, "RequestError")
    kind = {"content-type": "application/json"}
    for data in (b"{", b'{"name": NaN}', b"\xff\xfe", b"[" * 100_000):
        assert client.patch(f"{API}/people/1", content=data, headers=kind).status_code in (400, 422)
    failed(client.post(f"{API}/identify?false_match_rate=nan", files={"photo": ("x", png(0))}), 422, "RequestError")
    assert client.get("/healthz").status_code == 200


def test_names_with_html_are_data(client):
    name = MARKUP
    answer = client.patch(f"{API}/people/2", json={"name": name})
    assert (answer.json()["name"], answer.headers["content-type"]) == (name, "application/json")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_failure_of_ours_tells_nothing(client, service, monkeypatch):
    monkeypatch.setattr(service, "identify", lambda *_args, **_options: 1 / 0)
    message = failed(client.post(f"{API}/identify", files={"photo": ("x", png(0))}), 500, "InternalError")
    assert "division" not in message


def test_errors_do_not_tell_where_the_gallery_lies(client, service, monkeypatch):
    folder = str(service.gallery.folder)
    for error, status in ((GalleryError(f"{folder}: is full"), 409), (OSError(28, "No space", f"{folder}/x"), 503)):

        def fail(*_arguments, error=error, **_options):
            raise error

        monkeypatch.setattr(service, "identify", fail)
        assert folder not in failed(client.post(f"{API}/identify", files={"photo": ("x", png(0))}), status)
    answer = client.post(f"{API}/import", files={"file": ("x", b"no zip")})
    assert folder not in failed(answer, 409, "GalleryError")


def test_forms_beyond_reason(client):
    many = "".join(f'--x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\na\r\n' for n in range(10_000))
    for body in (
        many,
        many.replace("form-data;", 'form-data; filename="a";'),
        '--x\r\nContent-Disposition: form-data; name="photo\r\nX: y"\r\n\r\na\r\n--x--\r\n',
        "--x\r\n" + "A: b\r\n" * 100_000,
        "--x\r\n" + "A" * 1_000_000,
        "--x\r\nContent-Disposition: form-data; name=\"photo\"; filename*=utf-8''%00\r\n\r\na\r\n--x--\r\n",
        "no boundary",
        "",
    ):
        kind = {"content-type": "multipart/form-data; boundary=x"}
        answer = client.post(f"{API}/identify", content=body.encode(), headers=kind)
        assert answer.status_code in (400, 422)
        assert failed(answer, answer.status_code, "RequestError" if answer.status_code == 400 else None)
    unbound = {"content-type": "multipart/form-data"}
    failed(client.post(f"{API}/identify", content=b"x", headers=unbound), 400, "RequestError")
    more = [("photos", ("x", png(0)))] * 101
    failed(client.post(f"{API}/enroll", data={"name": "x"}, files=more), 422, "RequestError")


# Where requests come from


def test_another_host_or_site_is_refused(service):
    with strangers(service) as client:
        for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.1", ""):
            failed(client.get(f"{API}/people", headers={"host": host}), 421)
        for headers in (
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://127.0.0.1:1"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ):
            failed(client.get(f"{API}/people", headers=headers), 403)
            failed(client.post(f"{API}/cluster", headers=headers), 403)
        for host in ("localhost:80", "[::1]:80", "127.0.0.1"):
            assert client.get(f"{API}/people", headers={"host": host}).status_code == 200


def test_no_web_socket_is_opened(service):
    with (
        strangers(service) as client,
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(f"{API}/people", headers={"host": "evil.example"}),
    ):
        pass


def test_a_change_needs_a_token_or_a_page_of_ours(service):
    with strangers(service) as client:
        assert client.post(f"{API}/identify", files={"photo": ("x", png(0))}).status_code == 200
        failed(client.post(f"{API}/cluster"), 403, "AccessError")
        failed(client.delete(f"{API}/people/1"), 403, "AccessError")
        failed(client.post(f"{API}/index/jobs", json={"folder": "/"}), 403, "AccessError")
        for headers in (
            {"origin": "http://127.0.0.1"},
            {"origin": "https://127.0.0.1"},
            {"sec-fetch-site": "same-origin"},
        ):
            assert client.post(f"{API}/cluster", headers=headers).status_code == 200
        reader = {"authorization": f"Bearer {service.tokens.add('r', 'read')}"}
        writer = {"authorization": f"Bearer {service.tokens.add('w', 'write')}"}
        failed(client.post(f"{API}/cluster", headers=reader), 403, "AccessError")
        failed(client.delete(f"{API}/people/1", headers=writer), 403, "AccessError")
        failed(client.get(f"{API}/export", headers=writer), 403, "AccessError")
        assert client.post(f"{API}/cluster", headers=writer).status_code == 200


# Tokens and rates


def test_without_a_token_only_this_computer_is_served(service):
    rules = rules_for("0.0.0.0")
    secret = service.tokens.add("phone", "read")
    with strangers(service, rules) as client:
        assert failed(client.get(f"{API}/people"), 401, "TokenError")
        assert client.get(f"{API}/people").headers["www-authenticate"] == "Bearer"
        assert client.get("/healthz").status_code == 200
        failed(client.get("/metrics"), 401)
        right = {"authorization": f"Bearer {secret}", "host": "192.168.1.2:8765"}
        assert client.get(f"{API}/people", headers=right).status_code == 200
        failed(client.get(f"{API}/people", headers=right | {"host": "evil.example"}), 421)
        service.tokens.revoke("phone")
        failed(client.get(f"{API}/people", headers=right), 401)
    assert (rules_for("127.0.0.1").open, rules_for("::1").open, rules_for("localhost").open) == (True, True, True)
    assert not rules_for("127.0.0.1", ["faces.example.org"]).open
    with pytest.raises(InputError, match="host: expected a token before others .* `visavis tokens add`"):
        serve(service, host="0.0.0.0")


def test_a_thousand_wrong_tokens(service):
    secret = service.tokens.add("right", "read")
    with strangers(service, Rules(per_second=1e6, burst=10**6)) as client:
        codes = []
        for number in range(1000):
            wrong = f"Bearer visavis_{number}" if number % 2 else f"Basic {secret}"
            codes.append(client.get(f"{API}/people", headers={"authorization": wrong}).status_code)
        assert set(codes) == {401, 429}
        assert codes[:20] == [401] * 20
        assert client.get(f"{API}/people", headers={"authorization": f"Bearer {secret}"}).status_code == 200


def test_tokens_are_kept_as_hashes_only_their_owner_can_read(tmp_path):
    tokens, elsewhere = Tokens(tmp_path), Tokens(tmp_path)
    secret = tokens.add("ada", "write")
    path = tmp_path / "tokens.json"
    assert secret.removeprefix("visavis_") not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    found = elsewhere.find(secret)
    assert (found.name, found.may("read"), found.may("write"), found.may("admin")) == ("ada", True, True, False)
    with pytest.raises(InputError, match="name: expected one that no token has, got 'ada'"):
        tokens.add("ada", "read")
    with pytest.raises(InputError, match="name: expected printable text"):
        tokens.add("\n", "read")
    elsewhere.revoke("ada")
    assert tokens.find(secret) is None
    with pytest.raises(InputError, match="name: expected that of a token, got 'ada'"):
        tokens.revoke("ada")
    path.write_text('[{"name": "x"}]')
    with pytest.raises(GalleryError, match="expected the tokens of a gallery"):
        Tokens(tmp_path).all()


def test_a_token_revoked_in_the_tick_of_its_making_opens_nothing(tmp_path):
    tokens, elsewhere = Tokens(tmp_path), Tokens(tmp_path)
    secret = elsewhere.add("ada", "admin")
    assert tokens.find(secret) is not None
    path, status = tmp_path / "tokens.json", (tmp_path / "tokens.json").stat()
    path.write_text("[]")  # the same inode
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert tokens.find(secret) is None


def test_too_many_requests_are_made_to_wait(service):
    with strangers(service, Rules(per_second=1e-6, burst=3)) as client:
        assert [client.get("/healthz").status_code for _ in range(4)] == [200, 200, 200, 429]
        assert client.get("/healthz").headers["retry-after"] == "1"


def test_the_tokens_command(gallery, capsys):
    def run(*arguments):
        code = main(["tokens", *arguments, "--gallery", str(gallery), "--json"])
        return code, json.loads(capsys.readouterr().out)

    code, made = run("add", "ada", "--scope", "admin")
    assert (code, Tokens(gallery).find(made["token"]).scope) == (0, "admin")
    [listed] = run("list")[1]
    assert (listed["name"], listed["scope"], "token" in listed) == ("ada", "admin", False)
    assert run("revoke", "ada") == (0, {"name": "ada"})
    assert run("revoke", "ada")[0] == 3


# Paths


def test_index_roots(client, photos, tmp_path):
    (photos / "out").symlink_to(tmp_path)
    (photos / "inner").mkdir()
    (photos / "inner" / "up").symlink_to(photos)  # within, and round
    unfit = (f"{photos}/{'a' * 300}", f"{photos}/a\0b", "/" + "a/" * 2000)  # for any file
    for folder in ("/", "/etc", str(tmp_path), f"{photos}/..", f"{photos}/out", "photos", "", "~", *unfit):
        answer = client.post(f"{API}/index/jobs", json={"folder": folder})
        assert "below an allowed --root" in failed(answer, 403, "RootError")
    assert "exists" in failed(client.post(f"{API}/index/jobs", json={"folder": f"{photos}/no"}), 403, "RootError")
    assert "no links out" in failed(client.post(f"{API}/index/jobs", json={"folder": str(photos)}), 403, "RootError")
    (photos / "out").unlink()
    assert allowed_folder(f"{photos}/inner", [photos]) == photos / "inner"
    for path, roots in ((str(photos), []), (f"{photos}/\ud800", [photos])):
        with pytest.raises(RootError):
            allowed_folder(path, roots)


def test_paths_that_climb_reach_no_file(client):
    for path in (
        "/faces/../../../etc/passwd/thumbnail",
        "/faces/..%2f..%2fetc%2fpasswd/thumbnail",
        "/%2e%2e/%2e%2e/etc",
    ):
        answer = client.get(API + path)
        assert answer.status_code in (404, 422)
        assert b"root:" not in answer.content


# A real server


def test_a_real_server_outlives_raw_nonsense(service):
    with running(make_app(service)) as (port, _):
        for raw in (
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"a: b\r\n" * 100_000,
            b"GET / HTTP/1.1\r\n\r\n",
            b"\0" * 1000,
            b"POST /api/v1/identify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n",
            b"GET /api/v1/people HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                try:
                    connection.sendall(raw)
                    answer = connection.recv(1000)
                except OSError:  # closed while it was still being sent
                    continue
                assert not answer or answer.startswith(b"HTTP/1.1 4"), answer
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            assert client.get("/healthz").json() == {"status": "ok"}
            found = client.post(f"{API}/identify", files={"photo": ("x", png(0))})
            assert found.json()[0]["name"] == "Ada"
