"""Addresses as Chromium itself reads them: `origin` may know less than it, but never something else."""

import html
import json
import os
import random
import re
import shutil
import signal
import subprocess

import pytest

from visavis.gui.safety import origin

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
PIECES = [
    *("http", "https", "HTTPS", "file", "ftp", "data", "blob:https", "javascript", "http\u017f"),
    *(
        ":",
        "/",
        "//",
        "///",
        "\\",
        "\\\\",
        "@",
        "?",
        "#",
        ".",
        "..",
        "%2e",
        "%40",
        "%00",
        ";",
        ",",
        "&",
        "=",
        "[",
        "]",
        "|",
    ),
    *(
        "example.org",
        "evil.org",
        "EXAMPLE.org",
        "a.example.org",
        "localhost",
        "127.0.0.1",
        "0x7f.1",
        "[::1]",
        "1",
        "ada",
    ),
    *(
        ":80",
        ":443",
        ":8443",
        ":0443",
        ":99999",
        ":x",
        "",
        " ",
        "\t",
        "\n",
        "\r",
        "\0",
        "\x7f",
        "\u00ad",
        "\u3002",
        "\u200b",
    ),
    *(
        "\u212a",
        "\u00df",
        "\u00fc",
        "xn--bcher-kva",
        "_",
        "-",
        "~",
        "!",
        "$",
        "'",
        "(",
        ")",
        "*",
        "+",
        "{",
        "}",
        "^",
        "`",
        '"',
        "<",
    ),
]
PAGE = """<!doctype html><meta charset=utf-8><pre id=said></pre>
<script id=urls type=application/json>%s</script>
<script>
const read = url => { try { return new URL(url).origin } catch { return "invalid" } };
const urls = JSON.parse(document.getElementById("urls").textContent);
document.getElementById("said").textContent = JSON.stringify(urls.map(read));
</script>"""


def addresses(count):
    """Some that are nearly right, and some that are anything."""
    draw = random.Random(0)
    for number in range(count):
        rest = "".join(draw.choices(PIECES, k=draw.randint(1, 6)))
        yield ("https://" + rest, "https://example.org" + rest, "http://" + rest + "example.org/", rest)[number % 4]


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_an_origin_is_what_chromium_says_it_is(tmp_path):
    urls = list(addresses(20_000))
    page = tmp_path / "page.html"
    page.write_text(PAGE % json.dumps(urls).replace("<", "\\u003c"))
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = [
        BROWSER,
        *flags.split(),
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path}/home",
    ]
    with subprocess.Popen(
        [*command, "--dump-dom", page.as_uri()],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            said = process.communicate(timeout=120)[0].decode()
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    found = re.search(r"<pre id=\"said\">(.*?)</pre>", said, re.DOTALL)
    theirs = json.loads(html.unescape(found[1]))
    ours = [origin(url) for url in urls]
    pairs = list(zip(urls, ours, theirs, strict=True))
    wrong = [
        pair for pair in pairs if pair[1] not in (None, "file://") and pair[1] != pair[2].replace(".:", ":").rstrip(".")
    ]
    assert not wrong[:5]
    read = [pair for pair in pairs if pair[2] == "https://example.org"]
    assert sum(pair[1] is not None for pair in read) > 0.5 * len(read) > 200
