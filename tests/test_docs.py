"""What the pages show, runs: every ```python block of README.md and docs/, and every script in examples/.

The blocks of a page run in order and share their names. A page or script that holds `needs-models: PACK`
skips where that pack has not been pulled; one that uses `sample_photos`, where those have not been fetched.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def skip_without_models(text):
    wanted = re.search(r"needs-models: (\S+)", text)
    if wanted:
        from visavis.face.models import load_pack, status

        pack = load_pack(wanted[1])
        if not all(status(spec).present for spec in (pack.detector, pack.embedder)):
            pytest.skip(f"needs `visavis face models pull {pack.name}`")
    if "sample_photos" in text:
        from visavis.app.demo import SAMPLES
        from visavis.face.models import store_folder

        if not all((store_folder() / "samples" / name).exists() for name in SAMPLES):
            pytest.skip("needs the sample photos: `make demo`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_of_a_page(page, tmp_path, monkeypatch):
    text = page.read_text()
    blocks = list(BLOCK.finditer(text))
    if blocks:
        skip_without_models(text)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for block in blocks:
        above = "\n" * text.count("\n", 0, block.start(1))  # so that a traceback names the line of the page
        exec(compile(above + block[1], str(page), "exec"), names)


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.name)
def test_example(script, tmp_path, request):
    text = script.read_text()
    skip_without_models(text)
    if "ChromiumScreen(" in text:
        request.getfixturevalue("chromium")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
