"""Sets of targets are read, written and played as they should be; tests/gui/test_grounding_pages.py makes them."""

import json
import string
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binomtest

from visavis.errors import EndpointError, InputError, ReplyError
from visavis.gui.actions import Click, Drag, LongPress, Move, Wait
from visavis.gui.bench.grounding import Hit, Middle, Target, load, play, save, shares
from visavis.gui.model import ScriptedModel

SCREENSPOT = {
    "img_filename": "a.png",
    "bbox": [10, 20, 30, 5],
    "instruction": "Open the mail",
    "data_type": "icon",
    "data_source": "web",
}
PRO = {
    "img_filename": "a.png",
    "bbox": [10, 20, 40, 25],
    "instruction": "Open the mail",
    "ui_type": "icon",
    "application": "web",
    "data_type": "not this",
}


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (100, 60)).save(path)
    return path


def written(folder, *entries):
    path = folder / "set.json"
    path.write_text(json.dumps(list(entries)))
    return path


@pytest.mark.parametrize("entry", [SCREENSPOT, PRO])
def test_both_forms_say_the_same(tmp_path, picture, entry):
    (target,) = load(written(tmp_path, entry))
    assert target == Target("Open the mail", picture, (10, 20, 40, 25), "icon", "web")
    assert target.side_px == 5


@pytest.mark.parametrize("folder", ["images", "screenspot_imgs"])
def test_pictures_are_found(tmp_path, picture, folder):
    path = written(tmp_path, SCREENSPOT)
    (tmp_path / folder).mkdir()
    moved = picture.rename(tmp_path / folder / picture.name)
    assert load(path)[0].image == moved
    assert load(path, images=tmp_path / folder)[0].image == moved
    with pytest.raises(InputError, match=r"entry 0: img_filename: a\.png is not in .*; name its folder by `images`"):
        load(path, images=tmp_path)


@pytest.mark.usefixtures("picture")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instruction": ""}, "instruction: expected a text, got ''"),
        ({"img_filename": 3}, "img_filename: expected a text, got 3"),
        ({"bbox": [1, 2, 3]}, "bbox: expected four numbers"),
        ({"bbox": "1 2 3 4"}, "bbox: expected four numbers"),
        ({"bbox": [1, 2, 0, 4]}, "bbox: expected a box of some size"),
        ({"bbox": [-1, 2, 3, 4]}, "bbox: expected a box of some size"),
        ({"bbox": [1, 2, float("nan"), 4]}, "bbox: expected a box of some size"),
        ({"bbox": [1, 2, 3, float("inf")]}, "bbox: expected a box of some size"),
        ({"bbox": [10, 20, 10, 25], "ui_type": "icon"}, "bbox: expected a box of some size"),
        ({"img_filename": "b.png"}, "img_filename: b.png is not in"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, change, message):
    with pytest.raises(InputError, match=f"entry 1: {message}"):
        load(written(tmp_path, SCREENSPOT, SCREENSPOT | change))


@pytest.mark.parametrize("text", ["", "{}", "[]", "[", '"a"', b"\xff"])
def test_what_is_no_set(tmp_path, text):
    path = tmp_path / "set.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"set\.json: expected a JSON list"):
        load(path)
    with pytest.raises(InputError, match="entry 0: expected an object, got int"):
        load(written(tmp_path, 3))
    with pytest.raises(InputError, match=r"none\.json: expected a JSON list"):
        load(tmp_path / "none.json")


SIDES = st.integers(0, 4000)
TARGETS = st.builds(
    lambda instruction, left, top, width, height, kind, source: (
        instruction,
        (left, top, left + width + 1, top + height + 1),
        kind,
        source,
    ),
    st.text(min_size=1).filter(lambda text: text.isprintable()),
    *[SIDES] * 4,
    st.sampled_from(["", "text", "icon"]),
    st.text(string.printable),
)


@given(drawn=st.lists(TARGETS, min_size=1, max_size=4))
def test_what_is_saved_is_loaded(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("set")
    (folder / "pictures").mkdir()
    image = folder / "pictures" / "a b.png"
    image.touch()
    targets = [Target(instruction, image, box, kind, source) for instruction, box, kind, source in drawn]
    save(targets, folder / "set.json")
    assert load(folder / "set.json") == targets
    assert [path.name for path in folder.iterdir() if path.is_file()] == ["set.json"]


@pytest.fixture
def targets(picture):
    """Three: the middle of the picture lies in the second."""
    boxes = [(0, 0, 10, 10), (40, 20, 60, 40), (80, 50, 100, 60)]
    return [Target(f"Number {number}", picture, box, "icon") for number, box in enumerate(boxes)]


def test_a_point_is_right_in_the_box(targets):
    model = ScriptedModel(
        *[Click((10, 10)), Move((61, 30)), LongPress((80, 60))],
        *[Click((11, 10)), (Wait(0), Click((50, 30))), Drag(((85, 55), (90, 55)))],
    )
    hits = play(model, targets + targets)
    assert [hit.inside for hit in hits] == [True, False, True, False, False, False]
    assert [hit.point for hit in hits] == [(10, 10), (61, 30), (80, 60), (11, 10), None, None]
    assert [hit.problem for hit in hits] == [""] * 4 + ["the action has no point"] * 2
    assert [context.instruction for context in model.asked] == [target.instruction for target in targets] * 2
    assert model.asked[0].screenshot.size == (100, 60)


def test_the_middle(targets):
    assert [(hit.point, hit.inside) for hit in play(Middle(), targets)] == [
        ((50, 30), False),
        ((50, 30), True),
        ((50, 30), False),
    ]


def test_a_reply_that_does_not_parse_is_a_miss(targets):
    told = []
    hits = play(
        ScriptedModel(ReplyError("reply: expected a click, got 'no'", "no"), then=Click((50, 30))),
        targets,
        progress=lambda done, of: told.append((done, of)),
    )
    assert hits[0].problem == "reply: expected a click, got 'no'"
    assert [hit.inside for hit in hits] == [False, True, False]
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_an_endpoint_that_fails_for_a_moment_is_asked_again(targets, monkeypatch):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    down, full = EndpointError("endpoint: down", retry=True), EndpointError("endpoint: 429", retry=True, wait_s=7.0)
    hits = play(ScriptedModel(down, full, Click((5, 5)), then=Click((50, 30))), targets)
    assert [hit.inside for hit in hits] == [True, True, False]
    assert waited == [1, 7]  # the endpoint says how long


def test_what_was_answered_is_kept_when_the_endpoint_is_gone(targets, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    output = tmp_path / "answers.jsonl"
    gone = ScriptedModel(Click((5, 5)), Click((50, 30)), then=EndpointError("endpoint: gone", retry=True))
    with pytest.raises(EndpointError, match="gone"):
        play(gone, targets, output=output)
    assert len(gone.asked) == 5  # the last one three times
    refused = ScriptedModel(EndpointError("endpoint: 401", retry=False))
    with pytest.raises(EndpointError, match="401"):
        play(refused, targets, output=output)
    assert len(refused.asked) == 1
    back = ScriptedModel(Click((90, 55)))
    hits = play(back, targets, output=output)
    assert [context.instruction for context in back.asked] == ["Number 2"]
    assert [(hit.instruction, hit.inside) for hit in hits] == [(f"Number {number}", True) for number in range(3)]


@pytest.mark.parametrize("left", [1, 20, -1])
def test_a_run_goes_on_after_a_line_that_was_cut(targets, tmp_path, left):
    output = tmp_path / "answers.jsonl"
    whole = play(ScriptedModel(then=Click((50, 30))), targets, output=output)
    lines = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(lines[0] + lines[1][:left])
    model = ScriptedModel(then=Click((50, 30)))
    again = play(model, targets, output=output)
    assert [context.instruction for context in model.asked] == ["Number 1", "Number 2"]
    assert [replace(hit, seconds=0) for hit in again] == [replace(hit, seconds=0) for hit in whole]
    assert len(output.read_bytes().splitlines()) == 3
    nothing = ScriptedModel(then=AssertionError())
    assert play(nothing, targets, output=output) == again


@pytest.mark.parametrize("line", ["[]", "3", "{}", "no", '{"model": "scripted"}', '{"model": "scripted", "x": 1}'])
def test_a_file_of_something_else_is_refused(targets, tmp_path, line):
    output = tmp_path / "answers.jsonl"
    output.write_text(line + "\n")
    with pytest.raises(InputError, match=r"answers\.jsonl: expected lines of an earlier run; name another file"):
        play(Middle(), targets, output=output)
    assert output.read_text() == line + "\n"


def test_answers_to_something_else_are_refused(targets, tmp_path):
    output = tmp_path / "answers.jsonl"
    play(Middle(), targets, output=output)
    other = [targets[0], replace(targets[1], instruction="Another"), targets[2]]
    for model, asked in [(ScriptedModel(), targets), (Middle(), other), (Middle(), targets[:2])]:
        with pytest.raises(InputError, match=f"expected answers of {model.name} to these targets, got others"):
            play(model, asked, output=output)


@pytest.mark.parametrize("data", [None, b"", b"not a picture"])
def test_a_picture_that_is_none(targets, tmp_path, data):
    path = tmp_path / "b.png"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError, match=r"b\.png: expected a picture"):
        play(Middle(), [replace(targets[0], image=path)])


def test_shares_are_told_by_group():
    def one(kind, source, side):
        return Target("Go", Path("a.png"), (0, 0, 1000, side), kind, source)

    targets = [one("icon", "b", 8), one("text", "a", 16), one("text", "", 31), one("icon", "b", 63), one("", "a", 64)]
    hits = [_hit(inside) for inside in (True, False, True, True, False)]
    found = shares(targets, hits)
    assert {name: (share.hits, share.targets) for name, share in found.items()} == {
        "all": (3, 5),
        "kind: icon": (2, 2),
        "kind: text": (1, 2),
        "source: a": (0, 2),
        "source: b": (2, 2),
        "side: 00 to 16 px": (1, 1),
        "side: 16 to 32 px": (1, 2),
        "side: 32 to 64 px": (1, 1),
        "side: 64 px and more": (0, 1),
    }
    assert next(iter(found)) == "all"
    sides = [name for name in found if name.startswith("side")]
    assert sides == sorted(sides)
    for share in found.values():
        theirs = binomtest(share.hits, share.targets).proportion_ci(method="wilson")
        assert (share.low, share.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def _hit(inside):
    return Hit("Go", "a.png", (1, 1), inside)


def test_shares_need_a_hit_for_each(targets):
    with pytest.raises(InputError, match="hits: expected one for each of 3 targets, got 2"):
        shares(targets, [_hit(True)] * 2)
    with pytest.raises(InputError, match="hits: expected one for each of 0 targets, got 0"):
        shares([], [])
