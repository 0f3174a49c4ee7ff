"""Naming people one after another over HTTP: the queue, who is alike, and undo."""

import numpy as np
import pytest

from tests.app.server_client import API, client, gallery, png, service
from visavis.face.match import template

__all__ = ["client", "gallery", "service"]  # fixtures

pytestmark = pytest.mark.usefixtures("in_process")

CHANGE = "visavis-change"
ADA, BOB = 1, 2  # people of the gallery: three photos of Ada, two of Bob, who has no name, and one of nobody


def get(client, path, **query):
    answer = client.get(f"{API}/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def people(client):
    return {one["id"]: (one["name"], one["faces"]) for one in get(client, "people")["people"]}


def rows(service):
    """All that a user can change, read from the tables."""
    tables = ("SELECT id, person_id, pinned FROM face", "SELECT * FROM name", "SELECT * FROM separate")
    return [sorted(service.gallery._database.rows(table)) for table in (*tables, "SELECT id FROM person")]


def test_queue_holds_the_nameless_with_their_faces(client):
    page = get(client, "review")
    [unknown] = page["unknown"]
    assert (unknown["person"]["id"], unknown["person"]["name"], page["total"], page["next"]) == (BOB, None, 1, None)
    assert unknown["faces"] == [face["id"] for face in get(client, f"people/{BOB}/faces")]
    [likely] = unknown["likely"]
    assert likely["person"]["name"] == "Ada"


def test_likely_people_are_weighed_as_the_calibration_says(client, service):
    """Against the definition: one template a person, compared, read at as many candidates as there are."""
    faces = service.gallery.embeddings()
    templates = {}
    for person in (ADA, BOB):
        mine = faces.person_ids == person
        templates[person] = template(faces.vectors[mine], faces.quality[mine])
    similarity = float(templates[ADA] @ templates[BOB])
    [likely] = get(client, f"people/{BOB}/alike")
    assert likely["probability"] == pytest.approx(service.calibration.probability(similarity), rel=1e-4)
    assert likely["false_match_rate"] == pytest.approx(service.calibration.false_match_rate(similarity), rel=1e-4)


def test_more_candidates_make_each_less_certain(client, service):
    before = get(client, f"people/{BOB}/alike")[0]
    loner = next(row.id for row in service.gallery.faces() if row.person_id is None)
    service.gallery.enroll([loner], "Eve")
    after = next(one for one in get(client, f"people/{BOB}/alike") if one["person"]["id"] == ADA)
    assert after["false_match_rate"] > before["false_match_rate"]
    assert after["probability"] < before["probability"]


def test_queue_goes_on_where_it_was_whatever_was_named_meanwhile(client, service):
    """Eight people of one face: pages by two, and after each page its first is named and so leaves the queue."""
    faces = [row.id for row in service.gallery.faces()]
    for face in faces:
        service.gallery.assign([face], service.gallery.new_person(), pinned=True)
    expected = [row.id for row in service.gallery.people() if row.name is None]
    assert len(expected) == 6
    seen, after = [], None
    while True:
        page = get(client, "review", limit=2, **({} if after is None else {"after": after}))
        seen += [one["person"]["id"] for one in page["unknown"]]
        service.gallery.name(seen[-1], f"person {seen[-1]}")
        after = page["next"]
        if after is None:
            break
    assert seen == expected


def test_cursor_that_is_none_is_refused(client):
    for after in ("", "3", "a-b", "1-2-3", "-1--1", "9" * 16 + "-1"):
        assert client.get(f"{API}/review", params={"after": after}).status_code == 422, after


def test_suggestions_follow_what_changes(client, service):
    """Templates are kept; one whose faces change is made anew, and reads the same as one that was never kept."""
    get(client, "review")
    loner = next(row.id for row in service.gallery.faces() if row.person_id is None)
    service.gallery.assign([loner], BOB, pinned=True)
    kept = get(client, f"people/{BOB}/alike")
    service.likeness.__init__(service.gallery, service.calibration)
    assert get(client, f"people/{BOB}/alike") == kept


def test_vectors_are_read_once_while_nothing_changes(client, service, monkeypatch):
    get(client, "review")
    monkeypatch.setattr(type(service.gallery), "embeddings", None)  # reading them would fail
    get(client, "review")
    get(client, f"people/{ADA}/alike")


def test_separated_people_are_not_suggested_again(client):
    answer = client.post(f"{API}/people/{BOB}/separate", json={"others": [ADA]})
    assert answer.status_code == 200
    assert get(client, "review")["unknown"][0]["likely"] == []
    assert get(client, f"people/{ADA}/alike") == []
    client.post(f"{API}/changes/{answer.headers[CHANGE]}/undo")
    assert len(get(client, "review")["unknown"][0]["likely"]) == 1


def test_the_doubtful_face_is_the_one_of_somebody_else(client, service):
    stranger = next(row.id for row in service.gallery.faces() if row.person_id is None)
    service.gallery.assign([stranger], ADA, pinned=True)
    found = get(client, f"people/{ADA}/doubts")
    assert found[0]["face"]["id"] == stranger
    assert found[0]["probability"] < 0.5 < found[1]["probability"]
    assert len(get(client, f"people/{ADA}/doubts", k=2)) == 2


def test_one_face_alone_is_no_doubt(client, service):
    loner = next(row.id for row in service.gallery.faces() if row.person_id is None)
    person = service.gallery.enroll([loner], "Eve")
    assert get(client, f"people/{person}/doubts") == []


CHANGES = [
    ("patch", f"people/{BOB}", {"name": "Bob"}, {ADA: ("Ada", 3), BOB: ("Bob", 2)}),
    ("post", f"people/{ADA}/merge", {"others": [BOB]}, {ADA: ("Ada", 5)}),
    ("post", f"people/{BOB}/merge", {"others": [ADA]}, {BOB: ("Ada", 5)}),
    ("post", "people/split", {"faces": [1]}, {ADA: ("Ada", 2), BOB: (None, 2)}),
    ("post", f"people/{BOB}/separate", {"others": [ADA]}, {ADA: ("Ada", 3), BOB: (None, 2)}),
    ("post", f"people/{BOB}/faces", {"faces": [1, 6]}, {ADA: ("Ada", 2), BOB: (None, 4)}),
    ("post", f"people/{ADA}/faces", {"faces": [4, 5]}, {ADA: ("Ada", 5)}),
]


def test_undo_restores_exactly(client, service):
    """Each change from the same rows, which the undo of the one before has to have brought back."""
    before = rows(service)
    for method, path, body, after in CHANGES:
        answer = client.request(method, f"{API}/{path}", json=body)
        assert answer.status_code in (200, 201), answer.text
        assert set(after.items()) <= set(people(client).items()), path
        undone = client.post(f"{API}/changes/{answer.headers[CHANGE]}/undo")
        assert undone.status_code == 200
        assert rows(service) == before, path
        assert {one["id"] for one in undone.json()["people"]} <= {ADA, BOB}
        again = client.post(f"{API}/changes/{answer.headers[CHANGE]}/undo")
        assert (again.status_code, again.json()["error"]["type"]) == (404, "NotFoundError")


def test_undo_is_refused_once_the_same_was_changed_again(client):
    first = client.patch(f"{API}/people/{BOB}", json={"name": "Bob"}).headers[CHANGE]
    second = client.patch(f"{API}/people/{BOB}", json={"name": "Bert"}).headers[CHANGE]
    refused = client.post(f"{API}/changes/{first}/undo")
    assert (refused.status_code, refused.json()["error"]["type"]) == (409, "GalleryError")
    for change in (second, first):
        assert client.post(f"{API}/changes/{change}/undo").status_code == 200
    assert people(client)[BOB] == (None, 2)


def test_numbers_of_changes_are_exact_in_a_browser_and_not_guessed(client):
    numbers = [int(client.patch(f"{API}/people/{BOB}", json={"name": name}).headers[CHANGE]) for name in "abcd"]
    assert all(0 < number < 2**53 for number in numbers)
    assert sorted(np.diff(numbers)) != [1, 1, 1]
    for number in (0, 2**53):
        assert client.post(f"{API}/changes/{number}/undo").status_code == 422


def test_only_the_last_changes_are_kept(client, monkeypatch):
    monkeypatch.setattr("visavis.app.server.changes.KEPT", 2)
    numbers = [client.patch(f"{API}/people/{BOB}", json={"name": name}).headers[CHANGE] for name in "abc"]
    states = [client.post(f"{API}/changes/{number}/undo").status_code for number in reversed(numbers)]
    assert states == [200, 200, 404]


def test_what_is_forgotten_cannot_be_undone_back(client, service):
    name = client.patch(f"{API}/people/{BOB}", json={"name": "Bob"}).headers[CHANGE]
    apart = client.post(f"{API}/people/{ADA}/separate", json={"others": [BOB]}).headers[CHANGE]
    assert client.delete(f"{API}/people/{BOB}").status_code == 200
    for change in (name, apart):
        assert client.post(f"{API}/changes/{change}/undo").status_code == 404
    assert not service.changes._kept
    assert BOB not in service.likeness._known.people
    assert BOB not in service.likeness._known.best


def test_change_that_fails_leaves_nothing_to_undo(client, service):
    answer = client.patch(f"{API}/people/{BOB}", json={"name": "Ada"})
    assert answer.status_code == 409
    assert CHANGE not in answer.headers
    assert not service.changes._kept


def test_reading_is_not_enough_to_undo_or_to_change(client, service):
    change = client.patch(f"{API}/people/{BOB}", json={"name": "Bob"}).headers[CHANGE]
    client.headers["Authorization"] = f"Bearer {service.tokens.add('reader', 'read')}"
    for path in (f"changes/{change}/undo", f"people/{ADA}/separate", f"people/{ADA}/faces"):
        body = {"faces": [4]} if path.endswith("faces") else {"others": [BOB]}
        assert client.post(f"{API}/{path}", json=body).status_code == 403
    assert people(client)[BOB] == ("Bob", 2)


def test_person_who_is_not_there(client):
    for path in ("alike", "doubts"):
        assert client.get(f"{API}/people/77/{path}").status_code == 404
    assert client.post(f"{API}/people/77/faces", json={"faces": [1]}).status_code == 404
    assert client.post(f"{API}/people/{ADA}/faces", json={"faces": [77]}).status_code == 404


def test_people_are_found_by_name_and_told_apart_by_having_one(client, service):
    loner = next(row.id for row in service.gallery.faces() if row.person_id is None)
    service.gallery.enroll([loner], "ÉVA Straße")
    found = lambda **query: [one["name"] for one in get(client, "people", **query)["people"]]  # noqa: E731
    assert found(name="éva") == found(name="STRASSE") == ["ÉVA Straße"]
    assert found(name="%") == found(name="_") == []
    assert found(named=True) == ["Ada", "ÉVA Straße"]
    assert found(named=False) == [None]
    assert get(client, "people", named=True, limit=1, offset=1)["total"] == 2


def test_a_chosen_face_of_a_photo_is_searched(client):
    """Two faces in one photo: the index is that of `identify`, whichever is the largest."""
    files = {"photo": png(1, 0)}
    seen = client.post(f"{API}/identify", files=files).json()
    assert len(seen) == 2
    found = []
    for number in range(2):
        hits = client.post(f"{API}/search", params={"k": 1, "face": number}, files=files).json()
        found.append(hits[0]["face"]["person"])
    assert sorted(found) == [ADA, BOB]
    named = [one["person"] for one in seen]
    assert found[named.index(ADA)] == ADA
    refused = client.post(f"{API}/search", params={"face": 2}, files=files)
    assert refused.status_code == 422
    assert "face: expected one of the 2 in the photo, counted from 0, got 2" in refused.json()["error"]["message"]


def test_calibration_is_told_as_odds_and_shares(client, service):
    told = get(client, "calibration")
    assert told["measured_on"] == service.calibration.measured_on
    points, pairs = told["points"], service.calibration.pairs
    assert len(points) == len(pairs.edges)
    assert sum(one["different"] for one in points) == pytest.approx(1)
    assert sum(one["same"] for one in points) == pytest.approx(1)
    for one, similarity in zip(points, pairs.edges, strict=True):
        assert one["false_match_rate"] == pytest.approx(service.calibration.false_match_rate(similarity))
        assert one["probability"] == pytest.approx(1 / (1 + 10 ** -one["evidence"]), abs=1e-4)
        assert one["match_rate"] == pytest.approx(pairs.same[pairs.edges[:-1] >= similarity].sum(), abs=1e-6)
    assert "similarity" not in str(told)
