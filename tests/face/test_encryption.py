"""Encrypted galleries: what their folder tells without the key, and the ways into encryption and out of it."""

import hashlib
import hmac
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from tests.face.fake_pack import photo
from tests.face.small_gallery import DIM, JPEG, MODEL, add, contents, new_face, unit
from visavis.errors import GalleryError, InputError, MissingExtraError
from visavis.face import FaceSystem
from visavis.face.gallery import FolderGallery, encryption
from visavis.face.gallery.database import needs_key

pytest.importorskip("sqlcipher3")

KEY, OTHER = "correct horse battery", "staple of nine letters"
NAME = "Ada Lovelace"
PHOTO = "/photos/of Ada/1.jpg"


def needles(*seeds):
    """What must not be found: vectors as they are and as the search index holds them, pictures, names, paths."""
    found = {"name": NAME.encode(), "path": PHOTO.encode(), "a JPEG's start": JPEG, "schema": b"CREATE TABLE"}
    for seed in seeds:
        face = new_face(seed)
        scale = np.abs(face.embedding).max() / np.float32(127)
        found |= {
            f"vector {seed}": face.embedding.tobytes()[:16],
            f"row {seed}": np.rint(face.embedding / scale).astype(np.int8).tobytes()[:16],
            f"picture {seed}": face.thumbnail[20:36],
        }
    return found


def told(folder, *seeds):
    """What the folder's files tell to somebody without the key."""
    data = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {what for what, needle in needles(*seeds).items() if any(needle in held for held in data.values())}


def fill(folder, key, count=40):
    gallery = FolderGallery.open(folder, model=MODEL, key=key)
    for seed in range(count):
        add(gallery, seed, seed, path=PHOTO if seed == 3 else None)
    gallery.enroll([4], NAME)
    assert gallery.search(unit(3)[None], 1)[0] == 4
    return gallery


@pytest.fixture
def plain(tmp_path):
    """The folder of a gallery that is not encrypted, and its contents."""
    with fill(tmp_path / "g", None) as gallery:
        return gallery.folder, contents(gallery)


WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from tests.face.test_encryption import KEY, fill
    gallery = fill(Path(sys.argv[1]), KEY)
    print("filled", flush=True)
    sys.stdin.readline()
    """
)


def child(script, *arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, **options
    )


def test_a_folder_tells_nothing_while_open_nor_after_a_kill_nor_closed(tmp_path):
    folder = tmp_path / "g"
    fill(tmp_path / "plain", None).close()
    assert told(tmp_path / "plain", 3, 7) == needles(3, 7).keys(), "the test looks for what a plain gallery holds"
    with child(WRITER, folder) as process:
        assert process.stdout.readline() == "filled\n"
        assert {path.name for path in folder.iterdir()} == {
            "gallery.sqlite",
            "gallery.sqlite-wal",
            "gallery.sqlite-shm",
        }
        assert told(folder, 3, 7) == set()
        process.kill()
    assert told(folder, 3, 7) == set()
    with FolderGallery.open(folder, key=KEY) as gallery:
        assert gallery.counts().faces == 40
        assert gallery.search(unit(7)[None], 1)[0] == 8
    assert told(folder, 3, 7) == set()
    assert {path.name for path in folder.iterdir()} == {"gallery.sqlite"}


def test_it_answers_as_a_plain_one_does(tmp_path, plain):
    queries = np.stack([unit(seed) for seed in range(100, 120)])
    with FolderGallery.open(plain[0]) as one, fill(tmp_path / "other", KEY) as other:
        assert (one.encrypted, other.encrypted) == (False, True)
        assert contents(one) == contents(other)
        for found, expected in zip(other.search(queries, 7), one.search(queries, 7), strict=True):
            assert np.array_equal(found, expected)
        with FolderGallery.open(other.folder, key=KEY) as second:
            add(second, 100, 100)
            assert second.forget(second.find_person(NAME)) == 1
        assert other.search(unit(100)[None], 1)[0] == 41
        assert other.search(unit(3)[None], 1)[0] != 4, "forgotten by the other, gone from the index in memory"
        assert other.find_person(NAME) is None


def test_keys_that_do_not_open(tmp_path, plain, capfd):
    fill(tmp_path / "e", KEY).close()
    for key, message in (
        (None, "expected a key, got none"),
        (OTHER, "expected the key that this gallery was encrypted with, got another"),
        (KEY.upper(), "expected the key that this gallery was encrypted with"),
    ):
        with pytest.raises(GalleryError, match=message):
            FolderGallery.open(tmp_path / "e", key=key)
    with pytest.raises(GalleryError, match="expected an encrypted gallery, got a key for one that is not"):
        FolderGallery.open(plain[0], key=KEY)
    for bad in ("", "7 signs.", "one\nline and another"):
        if len(bad) != 8:
            with pytest.raises(InputError, match="key: expected at least 8 printable letters"):
                FolderGallery.open(tmp_path / "new", model=MODEL, key=bad)
            with pytest.raises(InputError, match="key: expected at least 8 printable letters"):
                encryption.encrypt(plain[0], bad)
    assert not (tmp_path / "new").exists()
    assert needs_key(tmp_path / "e")
    assert not needs_key(plain[0])
    assert capfd.readouterr() == ("", ""), "SQLCipher keeps its log to itself"


def test_quotes_and_other_alphabets_in_a_key(tmp_path):
    key = """it's "quoted"; --\\ äöü 钥匙 🔑"""
    fill(tmp_path / "g", key, 8).close()
    with FolderGallery.open(tmp_path / "g", key=key) as gallery:
        assert gallery.counts().faces == 8


def test_without_sqlcipher_the_cure_is_told(tmp_path, plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlcipher3", None)
    for call in (
        lambda: FolderGallery.open(tmp_path / "n", model=MODEL, key=KEY),
        lambda: encryption.encrypt(plain[0], KEY),
    ):
        with pytest.raises(MissingExtraError, match=r'pip install "visavis\[encryption\]"'):
            call()
    with FolderGallery.open(plain[0]) as gallery:
        assert contents(gallery) == plain[1]


# Pages, decrypted without SQLCipher, as its documentation says it encrypts


def decrypted(path, key):
    """The pages of a SQLCipher file, end to end; every HMAC is checked."""
    ciphers = pytest.importorskip("cryptography.hazmat.primitives.ciphers")
    data = path.read_bytes()
    salt, page, reserve = data[:16], 16_384, 80  # an initialisation vector of 16, an HMAC of 64
    secret = hashlib.pbkdf2_hmac("sha512", key.encode(), salt, 256_000, 32)
    mac_key = hashlib.pbkdf2_hmac("sha512", secret, bytes(byte ^ 0x3A for byte in salt), 2, 32)
    pages = []
    for number in range(1, len(data) // page + 1):
        held = data[(number - 1) * page : number * page]
        start = 16 if number == 1 else 0
        text, vector, mac = held[start:-reserve], held[-reserve:-64], held[-64:]
        assert hmac.digest(mac_key, text + vector + number.to_bytes(4, "little"), "sha512") == mac
        cipher = ciphers.Cipher(ciphers.algorithms.AES256(secret), ciphers.modes.CBC(vector)).decryptor()
        pages.append(cipher.update(text) + cipher.finalize())
    return b"".join(pages)


def test_the_parameters_are_those_told_and_forgetting_is_exact_below_the_encryption(tmp_path):
    with fill(tmp_path / "g", KEY, 300) as gallery:
        for seed in range(0, 300, 2):
            gallery.enroll([seed + 1], f"Person {seed}")
        victim = gallery.enroll([10], "Nobody Known")
        gallery._database.truncate_log()
        kept = new_face(11)
        before = decrypted(gallery.folder / "gallery.sqlite", KEY)
        assert gallery.forget(victim) == 1
        after = decrypted(gallery.folder / "gallery.sqlite", KEY)
    gone = new_face(9)
    for needle in (gone.embedding.tobytes(), gone.thumbnail, b"Nobody Known"):
        assert needle in before
        assert needle not in after
    assert kept.embedding.tobytes() in after


# Conversions


def test_encrypt_rekey_decrypt_lose_nothing_and_wipe_what_was(tmp_path, plain):
    folder, held = plain
    witnesses = []
    for key, convert, arguments in (
        (KEY, encryption.encrypt, (KEY,)),
        (OTHER, encryption.rekey, (KEY, OTHER)),
        (None, encryption.decrypt, (OTHER,)),
    ):
        for path in [path for path in folder.rglob("*") if path.is_file()]:  # another name, to see what becomes of it
            witnesses.append(tmp_path / f"{len(witnesses)}.{path.name}")
            os.link(path, witnesses[-1])
        convert(folder, *arguments)
        assert all(not any(path.read_bytes()) for path in witnesses)
        assert {path.name for path in folder.rglob("*")} <= {"gallery.sqlite", "search"}
        assert (folder / "gallery.sqlite").stat().st_mode & 0o777 == 0o600
        assert (told(folder, 3, 7) == set()) == (key is not None)
        with FolderGallery.open(folder, key=key) as gallery:
            assert contents(gallery) == held
            assert gallery.search(unit(3)[None], 1)[0] == 4
            assert gallery._database.rows("PRAGMA journal_mode") == [("wal",)]
            assert gallery._database.rows("PRAGMA integrity_check") == [("ok",)]
    assert any("vectors" in path.name for path in witnesses)
    with FolderGallery.open(folder) as gallery:
        assert add(gallery, 99, 99) == [41], "no id is given twice"


def test_conversions_refuse_what_they_cannot_do(tmp_path, plain):
    folder, held = plain
    fill(tmp_path / "e", KEY, 8).close()
    for call, error, message in (
        (lambda: encryption.encrypt(tmp_path / "none", KEY), GalleryError, "expected a gallery, found none"),
        (lambda: encryption.encrypt(tmp_path / "e", KEY), GalleryError, "expected a key, got none"),
        (lambda: encryption.decrypt(tmp_path / "e", OTHER), GalleryError, "got another"),
        (lambda: encryption.decrypt(folder, KEY), GalleryError, "got a key for one that is not"),
        (lambda: encryption.rekey(tmp_path / "e", KEY, KEY), InputError, "new_key: expected another key"),
        (lambda: encryption.rekey(tmp_path / "e", KEY, "short"), InputError, "key: expected at least 8"),
    ):
        with pytest.raises(error, match=message):
            call()
    (folder / "photos" / "ab").mkdir(parents=True)
    (folder / "photos" / "ab" / "cd.jpg").write_bytes(JPEG)
    with pytest.raises(GalleryError, match="photos: expected no uploaded photos, which would stay as they are"):
        encryption.encrypt(folder, KEY)
    (folder / "photos" / "ab" / "cd.jpg").unlink()
    with FolderGallery.open(folder) as gallery:
        with pytest.raises(GalleryError, match="it is open in this process; close it"):
            encryption.encrypt(folder, KEY)
        assert contents(gallery) == held
    encryption.encrypt(folder, KEY)


@pytest.mark.parametrize("key", [None, KEY])
def test_a_gallery_that_is_open_elsewhere_is_not_converted(tmp_path, key):
    folder = tmp_path / "g"
    with child(WRITER.replace("KEY)", f"{key!r})"), folder) as process:
        assert process.stdout.readline() == "filled\n"
        with pytest.raises(GalleryError, match="database is locked.*end the server or the command"):
            encryption.encrypt(folder, OTHER) if key is None else encryption.decrypt(folder, key)
        process.stdin.close()
        assert process.wait() == 0
    with FolderGallery.open(folder, key=key) as gallery:
        assert gallery.counts().faces == 40
    assert {path.name for path in folder.iterdir()} <= {"gallery.sqlite", "search"}


KILLED = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from tests.face.test_encryption import KEY
    from visavis.face.gallery import encryption
    module, step, way, before = os if sys.argv[2] == "link" else encryption, *sys.argv[2:5]
    original = getattr(module, step)
    def die(*arguments, **options):
        if before == "after":
            original(*arguments, **options)
        os._exit(9)
    setattr(module, step, die)
    getattr(encryption, way)(Path(sys.argv[1]), KEY)
    """
)


@pytest.mark.parametrize("way", ["encrypt", "decrypt"])
@pytest.mark.parametrize(
    ("step", "when", "converted"),
    [
        ("_take", "after", False),
        ("_copy", "after", False),
        ("_finish", "after", False),
        ("link", "after", False),
        ("_sync", "before", True),
        ("_zero", "before", True),
    ],
)
def test_a_conversion_that_is_killed_has_happened_or_not(tmp_path, way, step, when, converted):
    folder = tmp_path / "g"
    key = None if way == "encrypt" else KEY
    with fill(folder, key, 8) as gallery:
        held = contents(gallery)
    with child(KILLED, folder, step, way, when) as process:
        process.communicate()
    assert process.returncode == 9
    now = ({None, KEY} - {key}).pop() if converted else key
    with FolderGallery.open(folder, key=now) as gallery:
        assert contents(gallery) == held
        assert gallery._database.rows("PRAGMA journal_mode") == [("wal",)]
        assert not [path for path in folder.iterdir() if path.suffix in (".old", ".converted")]
        assert gallery.encrypted == (told(folder, 3) == set())
    if not converted:
        getattr(encryption, way)(folder, KEY)
        with FolderGallery.open(folder, key=None if key else KEY) as gallery:
            assert contents(gallery) == held


def test_a_full_disk_leaves_the_gallery_as_it_was(plain, monkeypatch):
    folder, held = plain

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encryption, "_copy", full)
    with pytest.raises(GalleryError, match="No space left on device: the gallery cannot be converted; it is as it was"):
        encryption.encrypt(folder, KEY)
    with FolderGallery.open(folder) as gallery:
        assert contents(gallery) == held


def test_who_opens_it_in_the_last_moment_goes_first(plain, monkeypatch):
    monkeypatch.setattr(encryption, "_take", lambda _connection: None)  # and the log is in use again
    with pytest.raises(GalleryError, match="expected to have the gallery alone, but somebody has opened it"):
        encryption.encrypt(plain[0], KEY)
    with FolderGallery.open(plain[0]) as gallery:
        assert contents(gallery) == plain[1]


def test_the_index_in_memory_is_filled_from_many_reads(tmp_path, monkeypatch):
    from visavis.face.gallery import index

    monkeypatch.setattr(index, "BATCH", 7)
    monkeypatch.setattr(index, "SAVE_ROWS", 10)
    with fill(tmp_path / "g", KEY) as gallery:
        queries = np.stack([unit(seed) for seed in range(40)])
        assert gallery.search(queries, 1)[0].ravel().tolist() == list(range(1, 41))
        gallery.remove_file(Path("/photos/8.jpg"))
        assert gallery.search(unit(8)[None], 1)[0] != 9
        assert gallery._index._tail.vectors.shape == (40, DIM)
        assert not (gallery.folder / "search").exists()


def test_an_export_is_plain_only_when_told(tmp_path):
    with fill(tmp_path / "g", KEY, 8) as gallery:
        with pytest.raises(GalleryError, match="expected to be told that the export of an encrypted gallery may be"):
            gallery.export_to(tmp_path / "file")
        assert not (tmp_path / "file").exists()
        gallery.export_to(tmp_path / "file", plain=True)
        with FolderGallery.open(tmp_path / "new", model=MODEL, key=OTHER) as new:
            assert new.import_from(tmp_path / "file").faces == 8
            assert new.counts() == gallery.counts()


@pytest.mark.usefixtures("in_process")
def test_the_face_system_opens_it(tmp_path, squares, photos):
    photo(photos / "a.png", 0, 1)
    with FaceSystem.open(tmp_path / "g", pack=squares, key=KEY) as faces:
        assert faces.index(photos).faces == 2
        faces.enroll(NAME, [photo(tmp_path / "b.png", 2)])
    assert told(tmp_path / "g", 0) == set()
    assert b"a.png" not in (tmp_path / "g" / "gallery.sqlite").read_bytes()
    with FaceSystem.open(tmp_path / "g", pack=squares, key=KEY) as faces:
        [found] = faces.identify(tmp_path / "b.png")
        assert found.person == NAME
    with pytest.raises(GalleryError, match="expected a key, got none"):
        FaceSystem.open(tmp_path / "g", pack=squares)
