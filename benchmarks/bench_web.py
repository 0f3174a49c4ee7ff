"""The web app's photos page in Chromium: how smooth it scrolls at 100,000 photos, beside the same page with 1,000.

    python benchmarks/bench_web.py                # minutes; needs Chromium and the models of the pack "fast"
    python benchmarks/bench_web.py 1000 20000     # other sizes

The server is the real one with its own limits; only the pixels are drawn, 40 pictures of 320 px in turn, for what is
measured is the page. Times are those between two frames as the page itself sees them (requestAnimationFrame): what the
browser and the page cost together, on a machine without a graphics card. Each size runs in a browser of its own.
"""

import argparse
import io
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from harness import write_result
from PIL import Image

from visavis.app.server.application import make_app
from visavis.app.server.service import Service
from visavis.face.records import Photo
from visavis.face.system import FaceSystem
from visavis.gui.screen._browser import find_chromium

SIZES = (1_000, 100_000)
WINDOW = {"width": 1280, "height": 800}
FRAMES = 300  # of each kind of scrolling
SPEEDS_PX = {"reading": 12, "skimming": 80, "flying": 1200}  # a frame
JUMPS = 30
LATE_MS = 33.4  # two frames of 60 Hz
SCROLL = """async ([step, frames]) => {
    const times = [];
    let most = 0, last = await new Promise(requestAnimationFrame);
    for (let frame = 0; frame < frames; frame++) {
        const end = document.documentElement.scrollHeight - innerHeight;
        scrollTo(0, scrollY + step > end ? 0 : scrollY + step);
        const now = await new Promise(requestAnimationFrame);
        times.push(now - last);
        last = now;
        most = Math.max(most, document.getElementsByTagName("*").length);
    }
    return { times, most };
}"""
JUMP = """async (share) => {
    const start = performance.now();
    scrollTo(0, share * document.documentElement.scrollHeight);
    while (performance.now() < start + 30000) {
        await new Promise(requestAnimationFrame);
        const tiles = [...document.querySelectorAll(".grid li")].filter((tile) => {
            const { top, bottom } = tile.getBoundingClientRect();
            return bottom > 0 && top < innerHeight;
        });
        if (tiles.length && tiles.every((tile) => tile.querySelector("img")?.naturalWidth > 0))
            return performance.now() - start;
    }
    throw new Error("the pictures of a jump did not come");
}"""
HEAP = "() => (gc(), performance.memory.usedJSHeapSize / 1e6)"


class Drawn:
    """In the place of `Pictures`: what it answers costs the server nothing."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.pictures = []
        for _ in range(40):
            coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
            stream = io.BytesIO()
            coarse.resize((320, 240), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=82)
            self.pictures.append(stream.getvalue())

    def jpeg(self, photo: Any, _long_side_px: int) -> bytes:
        """One of them."""
        return self.pictures[photo.id % len(self.pictures)]


def fill(folder: Path, count: int) -> None:
    """A gallery of so many photos without faces, taken over ten years."""
    start, step = datetime(2015, 1, 1), timedelta(days=3650) / count
    with FaceSystem.open(folder, pack="fast") as system, system.gallery.transaction():
        for number in range(count):
            path = Path("/nowhere") / f"{number}.jpg"
            photo = Photo(path, f"{number:064x}", 4000, 3000, start + number * step)
            system.gallery.add_photo(photo, size_bytes=1, mtime_ns=1, faces=())


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server of the gallery."""
    app = make_app(Service(folder))
    app.state.pictures = Drawn()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def measure(address: str) -> dict[str, Any]:
    """One size, in a new browser."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--enable-precise-memory-info", "--js-flags=--expose-gc"]
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=find_chromium(), args=flags)
        page = browser.new_page(viewport=WINDOW)
        refused: list[str] = []
        page.on("response", lambda answer: refused.append(answer.url) if answer.status >= 400 else None)
        start = time.perf_counter()
        page.goto(address)
        page.wait_for_selector(".grid li")
        page.evaluate(JUMP, 0)
        found: dict[str, Any] = {"open_ms": round(1e3 * (time.perf_counter() - start))}
        found["heap_mb_at_start"] = round(page.evaluate(HEAP), 1)
        nodes = 0
        for name, step in SPEEDS_PX.items():
            page.evaluate("scrollTo(0, 0)")
            scrolled = page.evaluate(SCROLL, [step, FRAMES])
            nodes = max(nodes, scrolled["most"])
            found[f"{name}_frame_ms"] = spread(scrolled["times"])
        random = np.random.default_rng(0)
        found["jump_ms"] = spread([page.evaluate(JUMP, share) for share in random.uniform(0, 1, JUMPS)])
        del found["jump_ms"]["late"]
        found |= {"most_elements": nodes, "heap_mb_at_end": round(page.evaluate(HEAP), 1), "refused": len(refused)}
        browser.close()
    return found


def spread(times_ms: list[float]) -> dict[str, float]:
    """p50, p95, the longest, and the share that came late."""
    values = np.array(times_ms)
    p50, p95 = np.percentile(values, [50, 95])
    late = float((values > LATE_MS).mean())
    return {
        "p50": round(float(p50), 1),
        "p95": round(float(p95), 1),
        "max": round(float(values.max()), 1),
        "late": round(late, 4),
    }


def main() -> None:
    """Measure each size and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES)
    rows, load = [], round(os.getloadavg()[0], 1)
    for count in parser.parse_args().sizes:
        with tempfile.TemporaryDirectory() as folder:
            gallery = Path(folder) / "g.visavis"
            fill(gallery, count)
            with serving(gallery) as address:
                rows.append({"photos": count, **measure(address)})
        print(rows[-1])
    setting = {"load_before": load, "window": WINDOW, "frames": FRAMES, "speeds_px": SPEEDS_PX}
    write_result("web", {**setting, "sizes": rows}, packages=("playwright",))


if __name__ == "__main__":
    main()
