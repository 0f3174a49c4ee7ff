"""Takes the pictures of docs/web.md: the web app on the sample photos, in Chromium.

    python benchmarks/web_pictures.py    # needs Chromium and the default models; seconds

The photos are works of the United States government and so in the public domain, see `visavis.app.demo`.
"""

import io
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image

from visavis.app.demo import sample_photos
from visavis.app.server.application import make_app
from visavis.app.server.service import Service
from visavis.face.system import FaceSystem
from visavis.gui.screen._browser import find_chromium

IMAGES = Path(__file__).parents[1] / "docs" / "images"
MOST_BYTES = 150_000
NAMES = {"obama.jpg": "Barack Obama", "biden.jpg": "Joe Biden"}


def main() -> None:
    """Index, name, serve, look."""
    with tempfile.TemporaryDirectory() as folder:
        gallery, photos = Path(folder) / "family.visavis", sample_photos()
        with FaceSystem.open(gallery) as system:
            system.index(photos)
            for file, name in NAMES.items():
                system.enroll(name, [photos / file])
            opened = system.gallery.faces(person=system.gallery.find_person("Joe Biden"))[0].photo_id
        server = uvicorn.Server(uvicorn.Config(make_app(Service(gallery)), port=0, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            look(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", opened)
        finally:
            server.should_exit = True
            thread.join()


def look(address: str, opened: int) -> None:
    """The grid on a desk, and a photo in the dark on a phone."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        desk = browser.new_page(viewport={"width": 1100, "height": 620}, locale="en-GB")
        desk.goto(address)
        save(desk, "web-photos")
        phone = browser.new_page(viewport={"width": 360, "height": 640}, locale="en-GB", color_scheme="dark")
        phone.goto(f"{address}/?photo={opened}")
        save(phone, "web-photo-phone")
        browser.close()


def save(page: Any, name: str) -> None:
    """The window as a PNG, once its pictures are there; of few colours, so that it stays small."""
    page.wait_for_load_state("networkidle")
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path = IMAGES / f"{name}.png"
    shot.quantize(192, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    assert path.stat().st_size <= MOST_BYTES, f"{path}: {path.stat().st_size} bytes"
    print(path)


if __name__ == "__main__":
    main()
