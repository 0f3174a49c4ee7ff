"""A pack written and read again is the same pack."""

import string
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.face.models import (
    HttpsSource,
    Licence,
    ModelFile,
    ModelInput,
    ModelSpec,
    NpmSource,
    Pack,
    PathSource,
    PypiSource,
    load_pack,
    models,
    packs,
)
from visavis.face.models.writing import pack_toml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
NAME = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,10}", fullmatch=True)
FILE_NAME = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,10}", fullmatch=True)
HEX = st.text(string.hexdigits[:16], min_size=64, max_size=64)
NUMBER = st.floats(-1e6, 1e6, allow_subnormal=False)
THREE = st.tuples(NUMBER, NUMBER, NUMBER)
FOLDER = Path("/some where/packs")
SOURCE = st.one_of(
    st.builds(HttpsSource, TEXT.map(lambda text: f"https://example.org/{text}")),
    st.builds(PypiSource, st.just("a-b"), st.just("1.0"), st.just("x/y.onnx"), HEX, st.booleans()),
    st.builds(NpmSource, st.just("@a/b"), st.just("1.0"), st.just("x/y.onnx")),
    st.builds(PathSource, FILE_NAME.map(lambda name: FOLDER / name)),
    st.builds(PathSource, FILE_NAME.map(lambda name: Path("/else where") / name)),
)
FILE = st.builds(
    ModelFile, FILE_NAME, st.integers(1, 10**9), HEX.map("sha256:{}".format), st.lists(SOURCE, max_size=3).map(tuple)
)
SPEC = st.builds(
    ModelSpec,
    name=NAME.map("own-{}".format),
    kind=st.just("embedder"),
    licence=st.builds(Licence, TEXT, st.sampled_from(["", "https://x"]), st.sampled_from(["", 'a "b"']), st.booleans()),
    input=st.builds(ModelInput, st.sampled_from(["RGB", "BGR"]), st.just(112), st.just(96), THREE, THREE),
    variants=st.lists(st.lists(FILE, min_size=1, max_size=2).map(tuple), min_size=1, max_size=2).map(tuple),
    outputs=st.lists(TEXT, max_size=2).map(tuple),
    template=st.one_of(st.just("arcface-112"), st.tuples(*[st.tuples(NUMBER, NUMBER)] * 5)),
    dim=st.one_of(st.none(), st.integers(1, 4096)),
    flip=st.booleans(),
)


@given(SPEC, st.sampled_from([None, FOLDER / "x.json", Path("/else where/x.json")]))
def test_reads_back_as_it_was(spec, calibration):
    pack = Pack("mine", models()["centerface"], spec, calibration)
    text = pack_toml(pack, FOLDER)
    assert text.splitlines()[0] == 'detector = "centerface"'
    assert read(text) == pack


@pytest.mark.parametrize("name", ["default", "fast"])
def test_packs_of_the_manifest(name):
    pack = packs()[name]
    assert read(pack_toml(pack, FOLDER)) == replace(pack, name="mine")
    assert len(pack_toml(pack, FOLDER).splitlines()) == 3


def test_a_judge_of_liveness_of_one_s_own():
    judge = replace(models()["minifasnet-v2"], name="other-fas", crop=4.0, threshold=0.25)
    pack = Pack("mine", models()["centerface"], models()["dlib-resnet-v1"], None, judge)
    assert read(pack_toml(pack, FOLDER)) == pack


def test_a_detector_of_one_s_own():
    detector = replace(models()["yunet-2023mar"], name="other-yunet")
    pack = Pack("mine", detector, models()["dlib-resnet-v1"])
    assert read(pack_toml(pack, FOLDER)) == pack


def test_another_model_under_a_known_name_is_described():
    changed = replace(models()["dlib-resnet-v1"], flip=False)
    assert read(pack_toml(Pack("mine", models()["centerface"], changed), FOLDER)).embedder == changed


def test_files_in_the_folder_move_with_it(tmp_path):
    file = ModelFile("x.onnx", 3, "sha256:" + "0" * 64, (PathSource(FOLDER / "x.onnx"),))
    spec = replace(models()["dlib-resnet-v1"], name="x", variants=((file,),))
    path = tmp_path / "mine.toml"
    path.write_text(pack_toml(Pack("mine", models()["centerface"], spec, FOLDER / "x.json"), FOLDER))
    moved = load_pack(path)
    assert moved.embedder.variants[0][0].sources == (PathSource(tmp_path / "x.onnx"),)
    assert moved.calibration == tmp_path / "x.json"


def read(text):
    """As load_pack reads mine.toml in FOLDER, which need not exist."""
    from unittest.mock import patch

    with patch.object(Path, "read_text", lambda *_args, **_options: text):
        return load_pack(FOLDER / "mine.toml")
