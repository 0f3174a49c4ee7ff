"""One contestant of the speed benchmark: from the paths of photos to the faces in them and what finding them cost.

    python benchmarks/peers/contestant.py face_recognition 1

Runs in the contestant's own environment. One JSON list of paths a line comes in; one JSON object a line goes out.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

CHUNK = 8  # photos our system takes at once, as when it indexes
BUSY = 0.05  # a thread counts as busy with this share of the CPU time

Analyse = Callable[[list[str]], list[int]]  # paths to the number of faces in each


def visavis(threads: int, pack: str, precision: str) -> Analyse:
    """All that indexing does but storing: hash, EXIF, detection, alignment, embedding, quality, thumbnail."""
    from visavis.face.analyze import Analyzer
    from visavis.face.models import load_pack
    from visavis.face.workers import AnalysisOptions

    options = AnalysisOptions()
    analyzer = Analyzer(load_pack(pack), threads=threads, precision=precision)  # type: ignore[arg-type]

    def analyse(paths: list[str]) -> list[int]:
        faces = []
        for start in range(0, len(paths), CHUNK):
            photos = [options.read(Path(path)) for path in paths[start : start + CHUNK]]
            faces += [len(found) for found in options.analyze(analyzer, photos)]
        return faces

    return analyse


def face_recognition(_threads: int) -> Analyse:
    """The three calls of its README; dlib's HOG detector and network have no threads to set."""
    import face_recognition as library

    def analyse(paths: list[str]) -> list[int]:
        faces = []
        for path in paths:
            image = library.load_image_file(path)
            faces.append(len(library.face_encodings(image, library.face_locations(image))))
        return faces

    return analyse


def deepface(threads: int) -> Analyse:
    """YuNet and dlib's network, as neither of its own defaults comes with the package."""
    import cv2

    cv2.setNumThreads(threads)
    from deepface import DeepFace
    from deepface.modules.exceptions import FaceNotDetected

    def analyse(paths: list[str]) -> list[int]:
        faces = []
        for path in paths:
            try:
                found = DeepFace.represent(img_path=path, model_name="Dlib", detector_backend="yunet")
            except FaceNotDetected:
                found = []
            faces.append(len(found))
        return faces

    return analyse


def thread_seconds() -> dict[str, float]:
    """CPU seconds of each thread of this process so far; empty where the system does not tell."""
    tasks = Path("/proc/self/task")
    return {task.name: int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks.glob("*")}


def main() -> None:
    """Answer requests until there are no more."""
    name, *arguments = sys.argv[1].split(":")
    threads = int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print
    analyse = {"visavis": visavis, "face_recognition": face_recognition, "deepface": deepface}[name](
        threads, *arguments
    )
    for line in sys.stdin:
        paths = json.loads(line)
        before, wall, cpu = thread_seconds(), time.perf_counter(), time.process_time()
        faces = analyse(paths)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        used = [seconds - before.get(task, 0.0) for task, seconds in thread_seconds().items()]
        busy = sum(seconds > BUSY * cpu for seconds in used)
        answers.write(json.dumps({"wall_s": wall, "cpu_s": cpu, "faces": faces, "busy_threads": busy}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
