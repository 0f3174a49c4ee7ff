"""`visavis serve` under load, and killed: a real server on loopback, real photos, the pack `fast`.

    python benchmarks/bench_serve.py PHOTOS [--minutes 5] [--clients 50] [--kills 10]

PHOTOS holds a folder of photos a person. First `--clients` clients identify, search and look at people without a pause
while an index job runs; then the server is killed `--kills` times in the midst of changes, and everything that it had
acknowledged must be there afterwards. The models come from VISAVIS_MODEL_PATH.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.harness import write_result
from visavis.app.server.tokens import Tokens
from visavis.face.photos import visible_files
from visavis.face.system import FaceSystem

__all__ = ["Server", "Told", "killed", "loaded", "main", "prepare", "scattered"]

API = "/api/v1"
START_S = 120.0
JPEG = "image/jpeg"
SHARES = {"identify": 5, "search": 3, "people": 1, "thumbnail": 1}  # of the requests
ROLES = {"visavis.app.server.decoder": "decoders", "loky": "workers"}  # by what their command lines hold


def prepare(folder: Path, photos: list[tuple[str, bytes]], pack: str | Path) -> Path:
    """A gallery whose people are enrolled, each by the photos that come under its name."""
    for number, (_, data) in enumerate(photos):
        (folder / f"{number}.jpg").write_bytes(data)
    with FaceSystem.open(folder / "g.visavis", pack=pack) as system:
        system.index(folder)
        for number, (name, _) in enumerate(photos):
            with contextlib.suppress(Exception):  # a photo of several people says nothing
                system.enroll(name, [folder / f"{number}.jpg"])
    return folder / "g.visavis"


def scattered(folder: Path, photos: list[bytes], count: int) -> Path:
    """A folder of `count` files, each of another content: the photos again and again, with a number at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.jpg").write_bytes(photos[number % len(photos)] + number.to_bytes(8, "big"))
    return folder


class Server:
    """`visavis serve` as a process of its own."""

    def __init__(self, gallery: Path, root: Path, pack: str | Path | None = None) -> None:
        own = [] if pack is None else ["--pack", str(pack)]
        command = [sys.executable, "-m", "visavis", "serve", str(gallery), "--port", "0", "--root", str(root), *own]
        self._process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"server: expected one that starts, but it ended with {self._process.wait()}")
        self.url = json.loads(line)["url"]
        self.process = psutil.Process(self._process.pid)

    def processes(self) -> dict[int, psutil.Process]:
        """Itself and all it has started, by their ids."""
        found = [self.process, *self.process.children(recursive=True)]
        return {one.pid: one for one in found}

    def rss_mb(self) -> dict[str, float]:
        """Resident memory now: the server's, its decoders', its index workers'."""
        total: dict[str, float] = defaultdict(float)
        for process in self.processes().values():
            with contextlib.suppress(psutil.NoSuchProcess):
                line = " ".join(process.cmdline())
                role = next((role for part, role in ROLES.items() if part in line), "server")
                total[role] += process.memory_info().rss / 2**20
        return dict(total)

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it, and wait until everything it had started is gone, too."""
        left = list(self.processes().values())
        self._process.send_signal(number)
        self._process.wait(START_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        _, alive = psutil.wait_procs(left, START_S)
        if alive:
            raise RuntimeError(f"server: expected nothing of it to be left, got {[one.cmdline() for one in alive]}")


# Load


@dataclass
class _Load:
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[str] = field(default_factory=Counter)


async def _ask(client: httpx.AsyncClient, what: str, photo: bytes, pick: random.Random, faces: list[int]) -> int:
    if what in ("identify", "search"):
        answer = await client.post(f"{API}/{what}", files={"photo": ("photo", photo, JPEG)})
    elif what == "people":
        answer = await client.get(f"{API}/people")
    else:
        answer = await client.get(f"{API}/faces/{pick.choice(faces)}/thumbnail")
    return answer.status_code


async def _load(url: str, tokens: list[str], photos: list[bytes], faces: list[int], seconds: float) -> _Load:
    load, end = _Load(), time.monotonic() + seconds

    async def client(number: int, token: str) -> None:
        pick = random.Random(number)
        async with httpx.AsyncClient(base_url=url, headers=_bearer(token), timeout=120) as client:
            while time.monotonic() < end:
                [what] = pick.choices(list(SHARES), list(SHARES.values()))
                start = time.perf_counter()
                try:
                    status = str(await _ask(client, what, pick.choice(photos), pick, faces))
                except httpx.HTTPError as error:
                    status = type(error).__name__
                load.seconds[what].append(time.perf_counter() - start)
                load.statuses[status] += 1

    await asyncio.gather(*(client(number, token) for number, token in enumerate(tokens)))
    return load


def loaded(gallery: Path, folder: Path, photos: list[bytes], *, clients: int, seconds: float, **options: Any) -> Any:
    """What `clients` clients meet while a folder is indexed, whether it ends before them or not."""
    tokens = [Tokens(gallery).add(f"client {number}", "read") for number in range(clients)]
    owner = _bearer(Tokens(gallery).add("owner", "admin"))
    server = Server(gallery, folder, **options)
    try:
        memory: list[dict[str, float]] = []
        with httpx.Client(base_url=server.url, headers=owner, timeout=120) as http:
            faces = [face["id"] for face in _ok(http.get(f"{API}/people/1/faces"))]
            job = _ok(http.post(f"{API}/index/jobs", json={"folder": str(folder)}))["id"]
            start, done = time.monotonic(), threading.Event()

            def watch() -> None:
                while not done.wait(2.0):
                    memory.append(server.rss_mb())

            watcher = threading.Thread(target=watch)
            watcher.start()
            try:
                load = asyncio.run(_load(server.url, tokens, photos, faces, seconds))
            finally:
                done.set()
                watcher.join()
            took, after = time.monotonic() - start, _ok(http.get(f"{API}/index/jobs/{job}"))
            metrics = http.get("/metrics").text
            _ok(http.delete(f"{API}/index/jobs/{job}"))
    finally:
        server.end()
    return {
        "clients": clients,
        "seconds": round(took, 1),
        "endpoints": {
            what: {
                "requests": len(times),
                **{f"p{part}_ms": round(float(np.percentile(times, part)) * 1e3, 1) for part in (50, 95, 99)},
            }
            for what, times in sorted(load.seconds.items())
        },
        "requests_per_s": round(sum(load.statuses.values()) / took, 1),
        "statuses": dict(load.statuses),
        "index": {"state": after["state"], "files": after["done"], "files_per_s": round(after["done"] / took, 2)},
        "memory_mb": _growth(memory),
        "decoder_deaths": float(_metric(metrics, "visavis_decoder_deaths")),
    }


def _growth(memory: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Of each kind of process the medians of the second, third and last quarter of the time, and the most ever."""
    parts = np.array_split(np.arange(len(memory)), 4)
    return {
        role: {
            **{
                name: round(float(np.median([memory[place].get(role, 0.0) for place in part])), 1)
                for name, part in zip(("second_quarter", "third_quarter", "last_quarter"), parts[1:], strict=True)
            },
            "most": round(max(one.get(role, 0.0) for one in memory), 1),
        }
        for role in ("server", "decoders", "workers")
    }


def _metric(text: str, name: str) -> str:
    return next((line.split()[-1] for line in text.splitlines() if line.startswith(name)), "0")


# Kills


@dataclass
class Told:
    """What the server has acknowledged, over all its lives."""

    names: dict[int, set[str]] = field(default_factory=dict)  # of a person; two while a change is under way
    uploaded: set[str] = field(default_factory=set)  # SHA-256
    jobs: set[int] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)


def killed(gallery: Path, folder: Path, photos: list[bytes], *, kills: int, clients: int, **options: Any) -> Any:
    """Kill a server at random moments while clients change the gallery; raises when anything acknowledged is lost."""
    owner, told, pick = _bearer(Tokens(gallery).add("killer", "admin")), Told(), random.Random(0)
    for number in range(kills):
        server = Server(gallery, folder, **options)
        with httpx.Client(base_url=server.url, headers=owner, timeout=120) as http:
            _check(http, gallery, told)
        threads = [
            threading.Thread(target=_change, args=(server.url, owner, folder, photos, clients * number + one, told))
            for one in range(clients)
        ]
        for thread in threads:
            thread.start()
        enough, end = told.statuses.total() + pick.randint(5, 60), time.monotonic() + START_S
        while told.statuses.total() < enough and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(pick.uniform(0, 0.5))
        server.end(signal.SIGKILL)
        for thread in threads:
            thread.join()
    server = Server(gallery, folder, **options)
    try:
        with httpx.Client(base_url=server.url, headers=owner, timeout=120) as http:
            _check(http, gallery, told)
            for job in _ok(http.get(f"{API}/index/jobs")):
                _wait_for(http, job["id"])
            assert _wait_for(http, _ok(http.post(f"{API}/index/jobs", json={"folder": str(folder)}))["id"]) == "done"
            known = set(_ok(http.post(f"{API}/photos/known", json={"sha256": sorted(told.uploaded)}))["known"])
            assert known == told.uploaded, f"{len(told.uploaded - known)} uploaded photos were not taken in"
            files = [row.path for row in _files(gallery, folder, **options) if row.photo_id is not None]
            assert sorted(files) == sorted(visible_files(folder)), "index: not every file is known"
    finally:
        server.end()
    return {
        "kills": kills,
        "clients": clients,
        "statuses": dict(told.statuses),
        "people": len(told.names),
        "uploads": len(told.uploaded),
        "jobs": len(told.jobs),
        "lost": 0,
    }


def _change(url: str, owner: dict[str, str], folder: Path, photos: list[bytes], number: int, told: Told) -> None:
    """Change this and that until the server is gone."""
    pick, mine = random.Random(number), list[int]()
    with contextlib.suppress(httpx.HTTPError), httpx.Client(base_url=url, headers=owner, timeout=120) as http:
        while True:
            tag = pick.getrandbits(60).to_bytes(8, "big")
            photo, name = pick.choice(photos) + tag, f"somebody {tag.hex()}"
            [what] = pick.choices(("enroll", "name", "upload", "index"), (4, 4, 4, 1))
            if what == "name" and not mine:
                what = "enroll"
            if what == "enroll":
                answer = http.post(f"{API}/enroll", data={"name": name}, files={"photos": ("photo", photo, JPEG)})
                if answer.status_code == 201:
                    mine.append(answer.json()["person"])
                    told.names[mine[-1]] = {name}
            elif what == "name":
                person = pick.choice(mine)
                told.names[person].add(name)
                answer = http.patch(f"{API}/people/{person}", json={"name": name})
                if answer.status_code == 200:
                    told.names[person] = {name}
            elif what == "upload":
                answer = http.post(f"{API}/photos", files={"photos": ("photo", photo, JPEG)})
                if answer.status_code == 201:
                    told.uploaded |= {one["sha256"] for one in answer.json()["photos"] if one["state"] == "stored"}
            else:
                answer = http.post(f"{API}/index/jobs", json={"folder": str(folder)})
                if answer.status_code == 202:
                    told.jobs.add(answer.json()["id"])
            told.statuses[f"{what} {answer.status_code}"] += 1


def _check(http: httpx.Client, gallery: Path, told: Told) -> None:
    """Everything acknowledged is there, and nothing is there by half."""
    for person, names in told.names.items():
        found = _ok(http.get(f"{API}/people/{person}"))
        assert found["name"] in names, f"{found}: expected one of {names}"
        assert found["faces"], f"{found}: expected faces"
    kept = {path.stem for path in visible_files(gallery / "photos")}
    assert told.uploaded <= kept, f"{len(told.uploaded - kept)} uploaded photos are lost"
    states = {job["id"]: job["state"] for job in _ok(http.get(f"{API}/index/jobs"))}
    lost = {job for job in told.jobs - states.keys() if job > min(states)}  # the oldest are forgotten by design
    assert not lost, f"jobs {lost} are lost"
    with contextlib.closing(sqlite3.connect(f"{(gallery / 'gallery.sqlite').as_uri()}?mode=ro", uri=True)) as database:
        for question, answer in (
            ("PRAGMA integrity_check", [("ok",)]),
            ("PRAGMA foreign_key_check", []),
            ("SELECT id FROM face EXCEPT SELECT face_id FROM vector", []),
            ("SELECT id FROM face EXCEPT SELECT face_id FROM thumbnail", []),
            ("SELECT path FROM file WHERE instr(path, CAST('scratch-' AS BLOB))", []),
        ):
            assert (found := database.execute(question).fetchall()) == answer, f"{question}: {found}"
    left = [path for path in gallery.glob("scratch-*") if not psutil.pid_exists(int(path.name.split("-")[1]))]
    assert not left, f"{left}: expected nothing of servers that are dead"


def _wait_for(http: httpx.Client, job: int) -> str:
    """The state in which the job ends."""
    while True:
        state: str = _ok(http.get(f"{API}/index/jobs/{job}"))["state"]
        if state not in ("waiting", "running"):
            return state
        time.sleep(0.2)


def _files(gallery: Path, folder: Path, pack: str | Path | None = None) -> Any:
    with FaceSystem.open(gallery, pack=pack, create=False) as system:
        return system.gallery.files(folder)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _ok(answer: httpx.Response) -> Any:
    answer.raise_for_status()
    return answer.json()


def main() -> None:
    """Run both parts and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of photos a person")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--kills", type=int, default=10)
    options, busy = parser.parse_args(), round(os.getloadavg()[0], 1)
    photos = [(path.parent.name, path.read_bytes()) for path in visible_files(options.photos)]
    contents = [data for _, data in photos]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "people").mkdir()
        gallery = prepare(folder / "people", photos[::2], "fast")
        many = scattered(folder / "many", contents, max(500, round(1500 * options.minutes)))
        seconds = 60 * options.minutes
        load = loaded(gallery, many, contents, clients=options.clients, seconds=seconds)
        print(json.dumps(load, indent=2))
        few = scattered(folder / "few", contents, 300)
        kills = killed(gallery, few, contents, kills=options.kills, clients=8) if options.kills else None
        print(json.dumps(kills, indent=2))
    payload = {
        "load_before": busy,
        "photos": len(photos),
        "pack": "fast",
        "shares": SHARES,
        "load": load,
        "kills": kills,
    }
    write_result("serve_load", payload, packages=("uvicorn", "fastapi", "openvino", "numpy"))


if __name__ == "__main__":
    main()
