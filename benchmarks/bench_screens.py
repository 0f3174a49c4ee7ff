"""How fast screens are looked at and acted on, beside mss, Pillow's ImageGrab, xdotool and Selenium.

    python benchmarks/bench_screens.py

The display is Xvfb with a photo-like picture on its root window and no window manager; the page in Chromium shows the
same picture. A look is an RGB array of one's own; mss gives BGRX, so its look is counted as it comes and with the
conversion its documentation shows. Acting waits until the screen is at rest, which the time of an action holds;
xdotool and Selenium wait for nothing.
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import mss
import numpy as np
from harness import compare, quartiles, write_result
from mss.tools import to_png
from PIL import Image, ImageGrab

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.gui.x11 import opened, x_server
from visavis.gui.actions import Click, Move, Scroll, Type
from visavis.gui.screen import ChromiumScreen, X11Screen

SIZES = {"1280 x 800": (1280, 800, 40), "3840 x 2160": (3840, 2160, 12)}  # with rounds
REPEATS = 7


def picture(width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Smooth colours with a little noise: neither flat nor incompressible."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 90), np.cos(y / 70), np.sin((x + y) / 130)], -1) * 100 + 128
    return (waves + generator.integers(-3, 4, waves.shape)).clip(0, 255).astype(np.uint8)


def paint(name: str, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    """Put a picture on the root window, a few rows at a time: a request has a length that it may have."""
    with opened(name) as connection:
        root = connection.screen().root
        brush = root.create_gc()
        rows = max(1, 200_000 // (4 * pixels.shape[1]))
        for top in range(0, len(pixels), rows):
            root.put_pil_image(brush, 0, top, Image.fromarray(pixels[top : top + rows]))
        connection.sync()


def png(pixels: Any) -> bytes:
    """As a trace writes it."""
    stream = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def looks(width: int, height: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of a look, in turns, after a check that all see the same pixels."""
    shown = picture(width, height)
    with x_server(f"{width}x{height}", manager=False) as (name, _), X11Screen(name) as screen:
        paint(name, shown)
        box = {"left": 0, "top": 0, "width": width, "height": height}
        with mss.MSS(display=name) as grabber:

            def converted() -> np.ndarray[Any, np.dtype[np.uint8]]:
                grab = grabber.grab(box)
                return np.asarray(Image.frombytes("RGB", grab.size, grab.bgra, "raw", "BGRX"))

            ways: dict[str, Callable[[], Any]] = {
                "X11Screen": lambda: screen.screenshot().pixels,
                "mss, BGRX": lambda: grabber.grab(box),
                "mss, RGB": converted,
                "ImageGrab": lambda: np.asarray(ImageGrab.grab(xdisplay=name)),
            }
            for way in ("X11Screen", "mss, RGB", "ImageGrab"):
                assert np.array_equal(ways[way](), shown), way
            pngs: dict[str, Callable[[], Any]] = {
                "X11Screen": lambda: png(screen.screenshot().pixels),
                "mss": lambda: to_png((grab := grabber.grab(box)).rgb, grab.size),
                "ImageGrab": lambda: png(ImageGrab.grab(xdisplay=name)),
            }
            return {
                "raw": compare(ways, rounds),
                "png": compare(pngs, max(3, rounds // 4)),
                "png_bytes": {way: len(take()) for way, take in pngs.items()},
            }


def times(act: Callable[[], Any]) -> list[float]:
    """Quartiles of seconds."""
    act()
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        act()
        taken.append(time.perf_counter() - begun)
    return quartiles(taken, 5)


def events() -> dict[str, Any]:
    """Seconds of actions and how many events each sends; None: xdotool is not installed."""
    with x_server(manager=False) as (name, _), X11Screen(name) as screen:
        places = cycle([(300, 300), (500, 400)])  # two clicks at one place would be kept apart
        letters = "the quick brown fox jumps over the lazy dog " * 23  # 1012 keys
        report: dict[str, Any] = {
            "type": {"events": 2 * len(letters), "seconds": times(lambda: screen.perform(Type(letters)))},
            "scroll": {"events": 2001, "seconds": times(lambda: screen.perform(Scroll((300, 300), 1000)))},
            "click": {"events": 3, "seconds": times(lambda: screen.perform(Click(next(places))))},
            "move": {"events": 1, "seconds": times(lambda: screen.perform(Move((300, 300))))},
            "xdotool, a process an event": None,
        }
        if shutil.which("xdotool"):
            command = ["xdotool", "mousemove", "300", "300"]
            environment = {**os.environ, "DISPLAY": name}
            seconds = times(lambda: subprocess.run(command, env=environment, check=True))
            report["xdotool, a process an event"] = {"events": 1, "seconds": seconds}
        return report


def browsers(rounds: int = 12) -> dict[str, Any]:
    """Milliseconds of looks and actions in Chromium, in turns; a look of each is checked to see the same pixels."""
    from selenium import webdriver
    from selenium.webdriver.common.action_chains import ActionChains

    width, height, _ = SIZES["1280 x 800"]
    letters = "the quick brown fox " * 5
    options = webdriver.ChromeOptions()
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--force-color-profile=srgb", "--hide-scrollbars"):
        options.add_argument(flag)
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(picture(width, height)).save(Path(folder) / "picture.png")
        page = Path(folder) / "page.html"
        entry = '<textarea style="position:absolute;left:0;top:0;width:300px;height:200px"></textarea>'
        page.write_text(f'<body style="margin:0"><img src="picture.png" style="display:block">{entry}')
        with (
            ChromiumScreen(page.as_uri(), size=(width, height)) as screen,
            webdriver.Chrome(options=options) as driver,
        ):
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.get(page.as_uri())

            def look() -> np.ndarray[Any, np.dtype[np.uint8]]:
                return np.asarray(Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB"))

            assert np.array_equal(screen.screenshot().pixels[200:], look()[200:])
            point = (100, 100)
            body = driver.find_element("tag name", "body")
            place = point[0] - width // 2, point[1] - height // 2

            def click() -> None:
                ActionChains(driver).move_to_element_with_offset(body, *place).click().perform()

            click()
            screen.perform(Click(point))
            return {
                "a look": compare({"ChromiumScreen": lambda: screen.screenshot().pixels, "Selenium": look}, rounds),
                "a click": compare({"ChromiumScreen": lambda: screen.perform(Click(point)), "Selenium": click}, rounds),
                f"{len(letters)} keys": compare(
                    {
                        "ChromiumScreen": lambda: screen.perform(Type(letters)),
                        "Selenium": lambda: ActionChains(driver).send_keys(letters).perform(),
                    },
                    rounds,
                ),
            }


def main() -> None:
    """Measure, and write the result."""
    report = {label: looks(*size) for label, size in SIZES.items()}
    packages = ("mss", "pillow", "numpy", "python-xlib", "selenium", "websockets")
    found = {"x11_looks": report, "x11_events": events(), "chromium": browsers()}
    write_result("screens", found, packages=packages)


if __name__ == "__main__":
    main()
