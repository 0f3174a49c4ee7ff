"""Schemathesis on the OpenAPI of the service: whatever comes, no answer is a 500 or other than the OpenAPI says."""

from collections import defaultdict
from dataclasses import replace

import pytest

from tests.app.server_client import API, EASY, gallery, service
from visavis.app.server.application import make_app

__all__ = ["gallery", "service"]  # fixtures

schemathesis = pytest.importorskip("schemathesis")
UNSAID = r"identify|search|verify|enroll|import|photos|streams|jobs|session|\{person\}"
pytestmark = pytest.mark.usefixtures("in_process")


def findings(service, *, examples, seconds, phases, seed):
    """By operation and kind, the first example of each thing that is wrong."""
    from schemathesis.engine import events, from_schema

    headers = {"Authorization": f"Bearer {service.tokens.add('schemathesis', 'admin')}"}
    rules = replace(EASY, hosts=frozenset({"testserver"}), open=False, wrong_tokens=10**6)
    config = schemathesis.Config.from_dict(
        {
            "headers": headers,
            "workers": 1,
            "seed": seed,
            "fuzz": {"max-time": seconds},
            "continue-on-failure": True,
            "generation": {"mode": "all", "max-examples": examples, "database": "none", "no-shrink": True},
            "phases": {name: {"enabled": name in phases} for name in ("examples", "coverage", "fuzzing", "stateful")},
            "request-timeout": 60,
            # What a photo, a source or a printable name is, no schema can say.
            "operations": [
                {"include-path-regex": "/streams/events$", "enabled": False},  # has no end
                {  # taken for numbers that are none, where another method than theirs is tried
                    "include-path-regex": "/(split|known|seen)$",
                    "checks": {
                        "unsupported_method": {"enabled": False},
                        "allow_header_conformance": {"enabled": False},
                    },
                },
                {
                    "include-path-regex": rf"/({UNSAID})$",
                    "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "403", "404", "409", "422"]}},
                },
            ],
        }
    )
    schema = schemathesis.openapi.from_asgi(
        f"{API}/openapi.json", _for_ever(make_app(service, rules)), config=config, headers=headers
    )
    _spell_out_tuples(schema.raw_schema)
    found, calls = defaultdict(list), 0
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            calls += len(event.recorder.interactions)
            for checks in event.recorder.checks.values():
                for check in checks:
                    if check.failure_info is not None:
                        failure = check.failure_info.failure
                        found[f"{event.recorder.label}: {failure.title}"].append(
                            f"{failure.message[:400]}\n{check.failure_info.code_sample[:400]}"
                        )
        elif isinstance(event, (events.NonFatalError, events.FatalError)):
            found["error"].append(str(getattr(event, "value", None) or event.exception))
    return {key: values[0] for key, values in found.items()}, calls


def _spell_out_tuples(value):
    """Say tuples of one type as lists of a length: of `prefixItems` Schemathesis 4.32 makes what it then refuses."""
    if isinstance(value, dict) and "prefixItems" in value:
        [kind] = {str(one): one for one in value.pop("prefixItems")}.values()
        value["items"] = kind
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _spell_out_tuples(part)


def _for_ever(app):
    """The application without its end: a client of Schemathesis comes and goes with every request."""

    async def wrapped(scope, receive, send):
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{kind}"
                await send({"type": f"lifespan.{kind}.complete"})
            return
        await app(scope, receive, send)

    return wrapped


def shown(found):
    return "\n\n".join(f"{key}\n{value}" for key, value in found.items())


def test_schemathesis_finds_nothing(service):
    found, calls = findings(service, examples=2, seconds=10, phases=["examples", "coverage"], seed=1)
    assert not found, shown(found)
    assert calls > 1000


@pytest.mark.slow
def test_schemathesis_finds_nothing_in_long(service):
    found, calls = findings(service, examples=30, seconds=60, phases=["fuzzing", "stateful"], seed=2)
    assert not found, shown(found)
    assert calls > 500
