"""Importing is silent, quick and touches nothing: no output, no file, no connection."""

import json
import os
import pkgutil
import subprocess
import sys

import visavis

MODULES = ["visavis", *(found.name for found in pkgutil.walk_packages(visavis.__path__, "visavis."))]

# An audit hook sees what Python code opens, at whatever depth. A module might catch the refusal, so it is
# also told at the end.
IMPORT_ALL = """
import importlib, os, sys, threading
refused = []

def watch(event, arguments):
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if writes or event in {"os.mkdir", "socket.bind", "socket.connect", "socket.getaddrinfo"}:
        refused.append((event, repr(arguments)))
        raise PermissionError(f"{event} during an import")

sys.addaudithook(watch)
for name in sys.argv[1:]:
    importlib.import_module(name)
sys.exit(f"refused: {refused}" if refused else 0)
"""


def run(code, *arguments, cwd):
    """A fresh interpreter whose home, working and temporary folder is `cwd`."""
    keep = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    homes = dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR"), str(cwd))
    command = [sys.executable, "-B", "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, env=keep | homes, capture_output=True, text=True, check=False)


def test_importing_prints_writes_and_downloads_nothing(tmp_path):
    done = run(IMPORT_ALL, *MODULES, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_importing_visavis_loads_nothing_heavy(tmp_path):
    done = run("import sys, json, visavis; print(json.dumps(list(sys.modules)))", cwd=tmp_path)
    assert not {"torch", "numpy", "rich", "typer"} & set(json.loads(done.stdout))


def test_importing_blocks_needs_torch_alone(tmp_path):
    blocks = [name for name in MODULES if name.startswith("visavis.blocks")]
    code = "import sys, importlib, json; [importlib.import_module(name) for name in sys.argv[1:]]"
    done = run(code + "; print(json.dumps(list(sys.modules)))", *blocks, cwd=tmp_path)
    assert "torch" in json.loads(done.stdout)
    assert not {"matplotlib", "scipy", "torchvision"} & set(json.loads(done.stdout))


def test_importing_visavis_takes_under_50_ms(tmp_path):
    """CPU time, best of five: what the machine does besides does not count."""
    code = "import time; start = time.process_time(); import visavis; print(time.process_time() - start)"
    assert min(float(run(code, cwd=tmp_path).stdout) for _ in range(5)) < 0.050
