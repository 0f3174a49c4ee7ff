"""What the OpenAPI of the service says beyond what FastAPI reads off the routes: tags, errors, names, examples."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from visavis.app.server.bodies import Error

__all__ = ["ERRORS", "DescribedApp"]

TAGS = {
    "people": "Who there is, and what a user says about them.",
    "photos": "What the gallery holds: photos, the faces in them, their pictures; and adding photos.",
    "questions": "About uploaded photos, which are looked at and not kept.",
    "gallery": "The gallery as a whole.",
    "index jobs": "Folders of the server that are taken in.",
    "streams": "Cameras and videos that are watched.",
    "session": "For browsers, which keep their token in a cookie.",
    "server": "The server itself.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Error, "description": description}
    for status, description in {
        400: "No request of HTTP as it should be.",
        401: "No token where one is needed, or a wrong one.",
        403: "The token may not do that, a change comes from elsewhere, or a path is not below an allowed root.",
        404: "There is none of that number, or no such path.",
        408: "The body did not come in time.",
        409: "The gallery's state forbids it, or it is busy: a name that is taken, work that is not done yet.",
        413: "More bytes or pixels than the server takes.",
        415: "A body of another kind than JSON or a form.",
        421: "A Host that is not this server's.",
        422: "A photo or value that cannot be used.",
        429: "More requests than a client may make; `Retry-After` says when to come again.",
        500: "The server failed; its log says how.",
        503: "The disk is full, the gallery is damaged, or so many wait that it is better to come again later.",
    }.items()
}
PARAMETERS = {"person": 3, "photo": 20, "face": 31, "job": 1}  # as in the examples of `visavis.face.wire`
BYTES = "(the file's bytes)"


class DescribedApp(FastAPI):
    """A FastAPI application that describes itself so; operations are named as the functions that answer them."""

    def __init__(self, **options: Any) -> None:
        tags = [{"name": name, "description": description} for name, description in TAGS.items()]
        super().__init__(openapi_tags=tags, generate_unique_id_function=_operation_id, **options)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI, with an example wherever something is sent."""
        if self.openapi_schema is None:
            schema = super().openapi()
            records = schema["components"]["schemas"]
            for record in records.values():
                for example in record.get("examples", ()):
                    _restore_nulls(example, record, records)
            for operation in _operations(schema):
                for parameter in operation.get("parameters", ()):
                    if parameter["in"] == "path":
                        parameter.setdefault("example", PARAMETERS.get(parameter["name"], 1))
                for content in _contents(operation):
                    if "example" not in content and "examples" not in content:
                        content["example"] = _example(content.get("schema", {}), records)
        return super().openapi()


def _operation_id(route: APIRoute) -> str:
    return route.name


def _operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in schema["paths"].values():
        yield from methods.values()


def _contents(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What an operation sends and is sent, by JSON or form."""
    for part in (operation.get("requestBody", {}), *operation["responses"].values()):
        for kind, content in part.get("content", {}).items():
            if kind in ("application/json", "multipart/form-data"):
                yield content


def _restore_nulls(value: Any, schema: dict[str, Any], records: dict[str, Any]) -> None:
    """Put the nulls of an example where FastAPI has left them out."""
    if "$ref" in schema:
        _restore_nulls(value, records[schema["$ref"].rpartition("/")[2]], records)
    elif isinstance(value, list):
        for one in value:
            _restore_nulls(one, schema.get("items", {}), records)
    elif isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            if name in value:
                _restore_nulls(value[name], part, records)
            elif name in schema.get("required", ()):  # and so null: an example without it would not fit
                value[name] = None


def _example(schema: dict[str, Any], records: dict[str, Any]) -> Any:
    """That of a record, or one made of those of its parts."""
    if "$ref" in schema:
        return _example(records[schema["$ref"].rpartition("/")[2]], records)
    if schema.get("examples"):
        return schema["examples"][0]
    if schema.get("contentMediaType") == "application/octet-stream" or schema.get("format") == "binary":
        return BYTES
    if schema.get("type") == "array":
        return [_example(schema["items"], records)]
    return {name: _example(part, records) for name, part in schema.get("properties", {}).items()}
