"""Encrypted galleries at the command line: where their keys come from, and what every command makes of them."""

import os
import sys

import pytest

from tests.app.test_face_cli import face, gallery, indexed, photos
from tests.face.fake_pack import photo
from visavis.app.cli import main
from visavis.errors import GalleryError
from visavis.face.gallery import FolderGallery

pytest.importorskip("sqlcipher3")
pytestmark = pytest.mark.usefixtures("in_process")
__all__ = ["face", "gallery", "indexed", "photos"]  # fixtures

KEY, OTHER = "correct horse battery", "staple of nine letters"


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    return path


def names_on_disk(folder):
    return [path for path in folder.rglob("*") if path.is_file() and b"Ada" in path.read_bytes()]


def test_every_command_opens_an_encrypted_gallery(face, gallery, photos, key_file, tmp_path, monkeypatch):
    with_key = ("--key-file", key_file)
    assert face("index", photos, "--encrypt", "--workers", "1", *with_key)[0] == 0
    with pytest.raises(GalleryError, match="expected a key, got none"):
        FolderGallery.open(gallery)
    ada = photo(tmp_path / "ada.png", 0, seed=7)
    for command in (
        ["index", photos],
        ["people"],
        ["name", "1", "Ada"],
        ["photos"],
        ["identify", ada],
        ["search", ada],
        ["enroll", "Grace", photo(tmp_path / "grace.png", 5)],
        ["cluster"],
        ["report", tmp_path / "page.html"],
        ["export", tmp_path / "export", "--plain"],
    ):
        code, told = face(*command)
        assert code == 3, command
        assert "key: expected one in VISAVIS_GALLERY_KEY or --key-file, or a terminal" in told
        assert face(*command, *with_key)[0] == 0, command
    monkeypatch.setenv("VISAVIS_GALLERY_KEY", KEY)
    assert face("split", "1")[0] == 0
    assert face("merge", "1", "Grace")[0] == 0
    assert face("import", tmp_path / "export")[0] == 0
    assert names_on_disk(gallery) == []
    assert face("forget", "Ada", "--yes")[0] == 0
    code, told = face("export", tmp_path / "other")
    assert (code, "expected to be told that the export of an encrypted gallery may be plain" in told) == (3, True)
    monkeypatch.setenv("VISAVIS_GALLERY_KEY", OTHER)
    assert "expected the key that this gallery was encrypted with, got another" in face("people")[1]


def test_encrypt_rekey_and_decrypt(face, indexed, key_file, monkeypatch):
    face("name", "1", "Ada")
    before = face("people", "--json")
    assert names_on_disk(indexed)
    (indexed / "jobs.json").write_text('[{"folder": "/photos/of Ada"}]')
    value = {"gallery": str(indexed), "encrypted": True}
    assert face("encrypt", indexed, "--key-file", key_file, "--json") == (0, value)
    assert names_on_disk(indexed) == []
    monkeypatch.setenv("VISAVIS_GALLERY_KEY", KEY)
    assert face("people", "--json") == before
    monkeypatch.setenv("VISAVIS_GALLERY_NEW_KEY", OTHER)
    assert face("rekey", indexed) == (0, f"{indexed} opens with the new key only.\n")
    assert face("people")[0] == 3
    monkeypatch.setenv("VISAVIS_GALLERY_KEY", OTHER)
    assert face("people", "--json") == before
    assert face("decrypt", indexed) == (0, f"{indexed} opens without a key now.\n")
    monkeypatch.delenv("VISAVIS_GALLERY_KEY")
    assert face("people", "--json") == before


def test_a_key_is_asked_for_without_showing_it(indexed, monkeypatch, capsys):
    asked = []

    def prompt(text, **options):
        asked.append((text, options["hide_input"], options["confirmation_prompt"]))
        return KEY

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", prompt)
    assert main(["face", "people"]) == 0
    assert main(["face", "encrypt", str(indexed)]) == 0
    assert main(["face", "people"]) == 0
    assert asked == [("The gallery's key", True, True), ("The gallery's key", True, False)]
    assert KEY not in "".join(capsys.readouterr())


def test_what_cannot_be_a_key_or_its_file(face, indexed, key_file, photos, monkeypatch):
    key_file.chmod(0o640)
    code, told = face("encrypt", indexed, "--key-file", key_file)
    assert code == 3
    assert "key-file: expected a file that only its owner may read, got one of mode 640: chmod 600 it" in told
    key_file.chmod(0o600)
    code, told = face("people", "--key-file", key_file)
    assert (code, "expected an encrypted gallery, got a key for one that is not" in told) == (3, True)
    code, told = face("index", photos, "--encrypt", "--key-file", key_file)
    assert (code, "expected a new or an encrypted gallery, got another; `visavis face encrypt` it" in told) == (3, True)
    monkeypatch.setenv("VISAVIS_GALLERY_KEY", "short")
    code, told = face("encrypt", indexed)
    assert (code, "key: expected at least 8 printable letters" in told) == (3, True)
    assert face("people")[0] == 0, "a key in the environment is for the encrypted ones among several"
    monkeypatch.setenv("VISAVIS_GALLERY", str(indexed.parent / "new.visavis"))
    assert face("index", photos, "--workers", "1")[0] == 0
    with FolderGallery.open(indexed.parent / "new.visavis") as gallery:
        assert not gallery.encrypted


@pytest.mark.skipif(os.name == "nt", reason="no modes there")
def test_an_encrypted_gallery_is_for_its_owner_alone(face, gallery, photos, key_file):
    assert face("index", photos, "--encrypt", "--workers", "1", "--key-file", key_file)[0] == 0
    assert gallery.stat().st_mode & 0o777 == 0o700
    assert (gallery / "gallery.sqlite").stat().st_mode & 0o777 == 0o600
