"""The OpenAPI of the service: what clients are generated from, and people read."""

import keyword
import re
from contextlib import closing

import jsonschema
import pytest

from visavis.app.server.application import API, make_app
from visavis.app.server.openapi import BYTES
from visavis.app.server.service import Service
from visavis.face import FaceSystem


@pytest.fixture(scope="module")
def schema(squares_folder, tmp_path_factory):
    folder, pack = tmp_path_factory.mktemp("openapi") / "g.visavis", squares_folder / "squares.toml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISAVIS_MODELS", str(squares_folder / "store"))
        FaceSystem.open(folder, pack=pack).close()
        with closing(Service(folder, pack=pack)) as service:
            return make_app(service).openapi()


def operations(schema):
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def contents(operation):
    """Where in an operation something is sent, with what."""
    for where, part in (("request", operation.get("requestBody", {})), *operation["responses"].items()):
        for kind, content in part.get("content", {}).items():
            yield f"{where} {kind}", content


def test_rules_of_the_openapi(schema):
    ids, tags = [], {tag["name"] for tag in schema["tags"]}
    used = set()
    assert all(tag["description"] for tag in schema["tags"])
    for where, operation in operations(schema):
        ids.append(operation["operationId"])
        assert operation["summary"], where
        assert operation["description"], where
        assert len(operation["tags"]) == 1, where
        used |= set(operation["tags"])
        assert re.fullmatch("[a-z]+(_[a-z]+)*", operation["operationId"]), where
        for name in re.findall(r"{(\w+)}", where):
            assert name in {one["name"] for one in operation["parameters"] if one["in"] == "path"}, where
        assert any(status.startswith("2") for status in operation["responses"]), where
        for status, answer in operation["responses"].items():
            assert answer["description"], (where, status)
            if status >= "400":
                assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}
        if where != "GET /healthz":
            assert {"401", "403", "421", "422", "429", "500"} <= operation["responses"].keys(), where
            assert operation["security"], where
    assert len(set(ids)) == len(ids)
    assert used == tags


def test_everything_that_is_sent_has_an_example_that_fits_its_schema(schema):
    checked = 0
    for where, operation in operations(schema):
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path":
                expect_fit(parameter["example"], parameter["schema"], schema, where)
        for part, content in contents(operation):
            if part.endswith(("json", "form-data")):
                assert content["example"] not in ({}, [], None, [{}]), (where, part)
                expect_fit(content["example"], content["schema"], schema, f"{where} {part}")
                checked += 1
            if part.endswith("form-data"):
                assert BYTES in str(content["example"]), where
    assert checked > 50


def test_examples_of_records_fit_their_schema(schema):
    for name, record in schema["components"]["schemas"].items():
        for example in record.get("examples", ()):
            expect_fit(example, record, schema, name)


def expect_fit(example, part, schema, where):
    whole = {"components": schema["components"], **part}
    errors = [error.message for error in jsonschema.Draft202012Validator(whole).iter_errors(example)]
    assert not errors, (where, errors)


def test_operations_are_named_for_clients_that_are_generated(schema):
    names = {where: operation["operationId"] for where, operation in operations(schema)}
    assert names[f"GET {API}/people"] == "list_people"
    assert not [name for name in names.values() if keyword.iskeyword(name)]
