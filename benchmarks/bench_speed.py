"""Speed from JPEG files to embedded faces: both packs beside face_recognition and deepface, on the same photos.

    python benchmarks/bench_speed.py [rounds at most]

Every contestant is a process of its own that has all it needs loaded. In each round all of them, one after the other,
look at the same slice of photos, so that a slow moment of a shared machine hits all alike; ratios are taken within
rounds. Files are read before, so that they come from memory.

The two peers live in a venv of their own, build/peers, made when missing. deepface fetches its weights when used; here
it gets YuNet and dlib's network, the same files as our packs use, and so is measured with these two only: the weights
of its other detectors and embedders (Facenet, ArcFace, RetinaFace, ...) come from servers of their own. It shrinks a
photo with as wide a black border to 640 px, so the photo itself to 320 px; we look at 1024 px, face_recognition at all.
"""

import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import ROOT, quartiles, write_result
from PIL import Image, ImageFilter, ImageOps
from protocols import DATA, SHARED, cfp_photos

from visavis.errors import ModelError
from visavis.face.models import load_pack, pull

PEERS = ROOT / "build" / "peers"
# setuptools: face_recognition_models imports pkg_resources. werkzeug: deepface 0.0.103 imports it undeclared.
PEER_PACKAGES = ("setuptools<80", "dlib", "face_recognition", "deepface", "tf-keras", "werkzeug")
OURS = ("fast", "fast float32", "default", "default float32")  # as they come; all in float32
THEIRS = ("face_recognition", "deepface")


def photos_250(folder: Path, count: int) -> None:
    """Frontal photos of CFP with some ground around, 250 x 250 px as in LFW."""
    frontal = [path for _, kind, path in cfp_photos() if kind == "frontal"]
    for index, path in enumerate(frontal[:: len(frontal) // count][:count]):
        with Image.open(path) as photo:
            face = photo.convert("RGB")
        ground = face.resize((250, 250)).filter(ImageFilter.GaussianBlur(12))
        zoom = 170 / max(face.size)
        face = face.resize((round(face.width * zoom), round(face.height * zoom)), Image.Resampling.BICUBIC)
        ground.paste(face, ((250 - face.width) // 2, (250 - face.height) // 2))
        ground.save(folder / f"{index:03d}.jpg", quality=90)


def photos_web(folder: Path, _count: int) -> None:
    """The photos of celeb5 as they are: found on the web, most about 300 px."""
    for path in sorted((DATA / "celeb5").rglob("*.jpg")):
        data = path.read_bytes()
        if data.startswith(b"\xff\xd8"):
            (folder / path.name).write_bytes(data)


def photos_12mp(folder: Path, count: int) -> None:
    """Photos of deepface's tests, cut and enlarged to what most phones take."""
    paths = sorted((DATA / "deepface_tests").glob("*.jpg"))
    for path in paths[:: len(paths) // count][:count]:
        with Image.open(path) as photo:
            size = (4032, 3024) if photo.width > photo.height else (3024, 4032)
            ImageOps.fit(photo.convert("RGB"), size, Image.Resampling.BICUBIC).save(folder / path.name, quality=90)


# name: (maker, photos at most, photos a round)
SETS = {"250 x 250": (photos_250, 200, 20), "web": (photos_web, 0, 13), "12 megapixels": (photos_12mp, 8, 2)}


@dataclass
class Contestant:
    """Processes that share the work; most are one."""

    name: str
    processes: list[subprocess.Popen[str]]
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def look(self, paths: Sequence[Path]) -> dict[str, Any]:
        """One round: every process takes its share."""
        count = len(self.processes)

        def ask(index: int) -> dict[str, Any]:
            process = self.processes[index]
            assert process.stdin is not None
            assert process.stdout is not None
            print(json.dumps([str(path) for path in paths[index::count]]), file=process.stdin, flush=True)
            answer: dict[str, Any] = json.loads(process.stdout.readline())
            return answer

        with ThreadPoolExecutor(count) as pool:
            parts = list(pool.map(ask, range(count)))
        return {
            "photos": len(paths),
            "cpu_s": sum(part["cpu_s"] for part in parts),
            "wall_s": max(part["wall_s"] for part in parts),
            "faces": sum(sum(part["faces"]) for part in parts),
            "with_face": sum(sum(map(bool, part["faces"])) for part in parts),
            "busy_threads": sum(part["busy_threads"] for part in parts),
        }


def peers_python() -> str:
    """The Python of the peers' venv, made when missing. Raises CalledProcessError when they do not install."""
    python = PEERS / "bin" / "python"
    if not (PEERS / ".installed").exists():
        venv.create(PEERS, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER_PACKAGES], check=True)
        (PEERS / ".installed").touch()
    return str(python)


def peers_versions() -> dict[str, Any]:
    """What the peers are made of, as far as it matters for speed."""
    code = (
        "import dlib, json; from importlib.metadata import version as v; print(json.dumps({"
        "**{p: v(p) for p in ('face_recognition', 'deepface', 'dlib', 'opencv-contrib-python-headless')},"
        "'dlib_avx': dlib.USE_AVX_INSTRUCTIONS, 'dlib_blas': dlib.DLIB_USE_BLAS}))"
    )
    run = subprocess.run([peers_python(), "-c", code], check=True, capture_output=True, text=True)
    versions: dict[str, Any] = json.loads(run.stdout)
    return versions


def deepface_home(folder: Path) -> Path:
    """Lay out the two weight files as deepface keeps what it has fetched."""
    weights = folder / ".deepface" / "weights"
    weights.mkdir(parents=True)
    for pack, role, name in (
        ("fast", "detector", "face_detection_yunet_2023mar.onnx"),
        ("default", "embedder", "dlib_face_recognition_resnet_model_v1.dat"),
    ):
        (weights / name).symlink_to(pull(getattr(load_pack(pack), role)))
    return folder


def enter(stack: ExitStack, name: str, threads: int, processes: int, home: Path) -> Contestant:
    """Start a contestant's processes."""
    pack, _, precision = name.partition(" ")
    ours = name not in THEIRS
    label = f"visavis:{pack}:{precision or 'bfloat16'}" if ours else name
    script = Path(__file__).parent / "peers" / "contestant.py"
    count = str(threads)
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    environment = {**os.environ, **dict.fromkeys(limits, count), "DEEPFACE_HOME": str(home)}
    started = []
    for _ in range(processes):
        process = subprocess.Popen(
            [sys.executable if ours else peers_python(), script, label, count],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        started.append(process)
    return Contestant(f"{name}, {processes} processes" if processes > 1 else name, started)


def slices(paths: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    """Interleaved, so that each holds something of all."""
    count = len(paths) // size
    for start in range(count):
        yield paths[start::count][:size]


def summary(contestant: Contestant, peers: Sequence[Contestant]) -> dict[str, Any]:
    """Quartiles over rounds; a ratio above 1 is how many photos we do for each one of the peer's per CPU second."""
    rounds = contestant.rounds
    row: dict[str, Any] = {
        "rounds": len(rounds),
        "cpu_ms_per_photo": quartiles([r["cpu_s"] / r["photos"] * 1e3 for r in rounds], 2),
        "wall_ms_per_photo": quartiles([r["wall_s"] / r["photos"] * 1e3 for r in rounds], 2),
        "photos_per_cpu_s": quartiles([r["photos"] / r["cpu_s"] for r in rounds], 2),
        "photos": sum(r["photos"] for r in rounds),
        "photos_with_face": sum(r["with_face"] for r in rounds),
        "faces": sum(r["faces"] for r in rounds),
        "busy_threads": max(r["busy_threads"] for r in rounds),
    }
    for peer in peers if contestant not in peers else ():
        for clock in ("cpu", "wall"):
            ratios = [b[f"{clock}_s"] / a[f"{clock}_s"] for a, b in zip(rounds, peer.rounds, strict=True)]
            row[f"{clock} ratio to {peer.name}"] = quartiles(ratios, 2)
    return row


def measure(
    contestants: Sequence[Contestant], folders: dict[str, Path], rounds: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """All sets in turn: one unmeasured round, then a slice of photos a round."""
    results = {}
    for name, folder in folders.items():
        paths = sorted(folder.iterdir())
        for path in paths:
            path.read_bytes()
        parts = list(slices(paths, SETS[name][2]))[:rounds]
        for contestant in contestants:
            contestant.rounds.clear()
            contestant.look(parts[-1][:4])
        for part in parts:
            for contestant in contestants:
                contestant.rounds.append(contestant.look(part))
        peers = [contestant for contestant in contestants if contestant.name in THEIRS]
        results[name] = {contestant.name: summary(contestant, peers) for contestant in contestants}
        for label, row in results[name].items():
            print(f"{name:14}{label:30}{row['cpu_ms_per_photo'][1]:10.2f} ms CPU a photo, ", end="")
            print(", ".join(f"{key} {value[1]}" for key, value in row.items() if key.startswith("cpu ratio")))
    return results


def main() -> None:
    """Measure on one thread, then on two."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    os.environ.setdefault("VISAVIS_MODEL_PATH", str(SHARED / "models"))
    payload: dict[str, Any] = {"load_before": round(os.getloadavg()[0], 1)}
    ours, theirs = list(OURS), list(THEIRS)
    for pack in ("fast", "default"):
        try:
            for spec in (load_pack(pack).detector, load_pack(pack).embedder):
                pull(spec)
        except ModelError as error:
            payload[pack] = f"cannot be had here ({error})"
            ours = [name for name in ours if not name.startswith(pack)]
    try:
        payload["peers"] = peers_versions()
    except (subprocess.CalledProcessError, OSError) as error:
        payload["peers"] = f"do not install here ({error})"
        theirs = []
    if len(ours) < len(OURS) and "deepface" in theirs:
        theirs.remove("deepface")  # its weights are those of our packs
    with tempfile.TemporaryDirectory() as place:
        folders = {}
        for name, (maker, count, _) in SETS.items():
            folders[name] = Path(place) / name
            folders[name].mkdir()
            maker(folders[name], count)
        home = deepface_home(Path(place) / "home") if "deepface" in theirs else Path(place)
        for threads in (1, 2):
            with ExitStack() as stack:
                contestants = [enter(stack, name, threads, 1, home) for name in [*ours, *theirs]]
                if threads == 2:  # how `index` uses two cores
                    contestants += [enter(stack, name, 1, 2, home) for name in ours if "float32" not in name]
                print(f"{threads} threads")
                payload[f"threads: {threads}"] = measure(contestants, folders, rounds)
    write_result("speed", payload, packages=("visavis", "numpy", "openvino", "pillow", "simplejpeg"))


if __name__ == "__main__":
    main()
