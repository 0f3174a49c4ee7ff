"""``visavis face evaluate`` and the report it writes."""

import json
import re
from html.parser import HTMLParser

import pytest

from tests.face.fake_pack import photo
from visavis.app.cli import main
from visavis.app.evaluation import interval, share
from visavis.face.evaluate import Estimate

pytestmark = pytest.mark.usefixtures("in_process")

WHO = (0, 0, 0, 1, 1, 5, 5, 9, 9, 14)
HOSTILE = "<script>alert(1)</script>&\"'"


@pytest.fixture
def people(tmp_path):
    """A folder of five people, one with a name that would like to be markup; one photo has no face."""
    folder = tmp_path / "people"
    for number, person in enumerate(WHO):
        place = folder / (HOSTILE.replace("/", "⁄") if person == 0 else f"person {person}")
        place.mkdir(parents=True, exist_ok=True)
        photo(place / f"{number}\x1b.png", person)
    photo(folder / "person 1" / "nobody.png")
    return folder


@pytest.fixture
def run(squares, tmp_path, capsys):
    """Runs the command; the exit code with what was printed, as JSON or as text."""

    def command(*arguments, output=tmp_path / "report"):
        code = main(["face", "evaluate", *map(str, arguments), "--pack", str(squares), "--output", str(output)])
        seen = capsys.readouterr()
        if "--json" in arguments:
            assert seen.out.count("\n") == 1
            return code, json.loads(seen.out)
        return code, seen.out if code in (0, 1) else seen.err

    return command


class Page(HTMLParser):
    """Of a page its tags, the addresses it names, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "srcset", "href")]

    def handle_data(self, data):
        self.text += data


def test_the_answer(people, run, tmp_path):
    code, text = run(people)
    assert code == 0
    rows = [line for line in text.splitlines() if "equal error rate" in line or "rank 1" in line]
    assert len(rows) == 2
    assert rows[0].split()[:3] == ["all", "pairs", "of"]
    assert "1 of 11 photos gave no face." in text
    assert f"page: {tmp_path}/report/report.html" in text
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "report.html", "report.json", "embeddings.sqlite3",
    }  # fmt: skip
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "report").iterdir())  # faces: the owner's alone


def test_the_json_answer_is_the_report_without_curves(people, run, tmp_path):
    code, value = run(people, "--json")
    kept = json.loads((tmp_path / "report" / "report.json").read_text())
    assert code == 0
    assert value.pop("report") == str(tmp_path / "report" / "report.html")
    assert kept["pack"] == value["pack"] == "squares"
    assert [model["name"] for model in kept["models"]] == ["square-detector", "square-embedder"]
    assert kept["without_face"] == [str(people / "person 1" / "nobody.png")]
    for row in kept["verification"]:
        assert len(row.pop("hardest_pairs_of_two_people")) > 3
        assert len(row.pop("hardest_pairs_of_one_person")) > 3
        assert row["roc"]["far"][-1] == 1.0
        row.pop("roc")
    assert kept == value
    [row] = kept["verification"]
    # Two pairs of one person hold the photo without a face; all others are told apart.
    assert row["pairs_of_one_person"] == 3 + 3 + 1 + 1
    assert row["tar_at_far"][0]["value"] == pytest.approx(6 / 8)
    assert row["tar_at_far"][0]["low"] < 6 / 8 < row["tar_at_far"][0]["high"]


def test_the_page_is_whole_by_itself_and_obeys_no_name(people, run, tmp_path):
    (people / "person 5" / "damaged.jpg").write_bytes(b"\xff\xd8\xff but no more")
    groups = tmp_path / "groups.csv"
    groups.write_text("person,group\nperson 1,<b>\nperson 5,<b>\nperson 9,c\n")
    code, _ = run(people, "--groups", groups)
    assert code == 1  # a file could not be read
    text = (tmp_path / "report" / "report.html").read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert page.addresses
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text
    assert "\x1b" not in text
    assert HOSTILE.replace("/", "⁄") in page.text
    for told in ("Equal error rate", "First (rank 1)", "<b>", "nobody.png", "damaged.jpg", "95 % interval"):
        assert told in page.text, told
    assert "2 people have no group." in page.text
    # Each measured number stands beside its interval.
    assert len(re.findall(r"<td><strong>[\d.]+ %</strong></td><td>[\d.]+ to [\d.]+ %</td>", text)) >= 4
    assert page.tags.count("picture") == 2  # ROC and DET, each for bright and dark pages
    assert page.tags.count("source") == 2


def test_a_second_run_looks_at_no_photo_again(people, run, monkeypatch):
    _, first = run(people, "--json")
    from visavis.face.workers import Workers

    class Nothing:
        def __init__(self, chunks):
            assert next(iter(chunks), None) is None

        def __iter__(self):
            return iter(())

        def close(self):
            pass

    monkeypatch.setattr(Workers, "run", lambda _recipe, chunks: Nothing(chunks))
    _, second = run(people, "--json")
    assert [first.pop("made"), second.pop("made")]
    assert first == second


def test_a_report_that_cannot_be_written_leaves_the_old_one(people, run, tmp_path, monkeypatch):
    run(people)
    before = {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()}
    from visavis.face import evaluate

    def fail(_figure):
        raise OSError("no space left")

    monkeypatch.setattr(evaluate, "png", fail)
    assert run(people)[0] == 3
    assert {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/nowhere"], "data: expected a folder or file that exists"),
        (["{tmp}/people/person 1"], "data: expected a sub-folder of photos for each of two people or more, got 0"),
        (["{tmp}/people", "--protocol", "lfw"], "expected the list of pairs of LFW, got none"),
        (["{tmp}/people", "--protocol", "cfp"], "expected a list of CFP's photos, got none"),
        (["{tmp}/people", "--protocol", "ijb"], "templates.csv: expected a CSV, got none"),
        (["{tmp}/people", "--groups", "{tmp}/none.csv"], "none.csv: expected a CSV, got none"),
    ],
)
def test_what_cannot_be_evaluated_says_why(people, run, tmp_path, arguments, message):
    assert people.is_dir()
    code, text = run(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert code == 3
    assert message in text


def test_the_output_must_be_a_folder(people, run, tmp_path):
    (tmp_path / "file").write_text("kept")
    code, text = run(people, output=tmp_path / "file")
    assert (code, (tmp_path / "file").read_text()) == (3, "kept")
    assert "output: expected a folder, or a new name for one, got the file" in text


def test_numbers_for_people():
    assert share(0.0) == "0.00 %"
    assert share(0.99999) == "100.00 %"
    assert interval(None) == ""
    assert interval(Estimate(0.5, 0.0001, 1.0)) == "0.01 to 100.00 %"
