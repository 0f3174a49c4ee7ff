"""What goes wrong at an endpoint ends, in bounded time, in an error that says what to do and whether to ask again."""

import gzip
import json
import socket
import traceback

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gui.endpoint import Endpoint, delta, half, raw, refused, silent, streamed, whole
from tests.gui.test_remote import CLICK, asked, screenshot, turn
from visavis.errors import EndpointError, ReplyError
from visavis.gui.model import Context

CONTEXT = Context("Log in", screenshot())
KEY = "sk-0123456789abcdef"
SHORT_S, LONG_S = 0.3, 60.0


def failure(*behaviours, context=CONTEXT, models=("ui-tars",), **options):
    """The error that a request ends in, with the address taken off its message."""
    with Endpoint(*behaviours, models=models) as endpoint:
        with pytest.raises(EndpointError) as caught:
            asked(endpoint.url, **({"first_token_s": LONG_S, "total_s": LONG_S} | options)).decide(context)
        prefix = f"{endpoint.url}: "
    error = caught.value
    assert str(error).startswith(prefix)
    return str(error).removeprefix(prefix), error


def begun(then):
    """A behaviour that starts a reply, and goes on in another way."""

    def behave(exchange):
        half("Thought: I ")(exchange)
        then(exchange)

    return behave


# Time -----------------------------------------------------------------------------------------------------------------


def dripping_headers(exchange):
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    exchange.drip(b"x-more: y\r\n")


def dripping_remarks(exchange):
    exchange.head(content_type="text/event-stream")
    exchange.drip(b": still here\n\n")


def dripping_line(exchange):
    exchange.head(content_type="text/event-stream")
    exchange.drip(b" ")


def dripping_json(exchange):
    exchange.head(content_type="application/json")
    exchange.drip(b" ")


def dripping_complaint(exchange):
    exchange.head(500)
    exchange.drip(b"x")


@pytest.mark.parametrize(
    "behave", [silent, dripping_headers, dripping_remarks, dripping_line, dripping_json, dripping_complaint]
)
def test_no_token_in_time(behave):
    message, error = failure(behave, first_token_s=SHORT_S)
    assert (message, error.retry) == (f"expected a token within {SHORT_S} s, got none", True)


def test_the_limit_of_all_is_one_of_the_first_token_too():
    message, _ = failure(silent, total_s=SHORT_S)
    assert message == f"expected a token within {SHORT_S} s, got none"


@pytest.mark.parametrize(
    "then",
    [
        silent,
        lambda exchange: exchange.drip(b" "),
        lambda exchange: exchange.drip(b": still here\n\n"),
        lambda exchange: exchange.drip(b"data: " + json.dumps(delta("")).encode() + b"\n\n"),
    ],
)
def test_no_end_in_time(then):
    message, error = failure(begun(then), total_s=2.0)
    assert (message, error.retry) == ("expected a whole reply within 2 s, got 11 characters", True)


def test_a_reply_that_never_ends(monkeypatch):
    monkeypatch.setattr("visavis.gui.model.remote.LONGEST_REPLY", 10_000)
    endless = begun(lambda exchange: [exchange.events(delta("word " * 100)) for _ in range(1000)])
    message, error = failure(endless)
    assert (message, error.retry) == ("expected a reply, got 10,000 characters without an end", False)


def test_an_end_that_is_known_before_time_is_up():
    """The reply is whole; only the connection hangs, and DONE never comes."""

    def behave(exchange):
        half(CLICK)(exchange)
        exchange.events(delta("", "stop"))
        exchange.hang()

    with Endpoint(behave) as endpoint:
        assert asked(endpoint.url, total_s=2.0).decide(CONTEXT).text == CLICK


# The connection -------------------------------------------------------------------------------------------------------


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and does not listen
        port = free.getsockname()[1]
        with pytest.raises(
            EndpointError,
            match=rf"^http://127.0.0.1:{port}/v1: expected a connection, got none \(.+\); does the server run there\?$",
        ) as caught:
            asked(f"http://127.0.0.1:{port}/v1").decide(CONTEXT)
        assert caught.value.retry


def test_a_port_that_does_not_accept():
    """Its queue is full, so that the connection is never made."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        try:
            for other in waiting:
                other.setblocking(False)
                other.connect_ex(address)
            with pytest.raises(EndpointError, match="expected a connection, got none") as caught:
                asked(f"http://127.0.0.1:{address[1]}/v1", connect_s=SHORT_S).decide(CONTEXT)
            assert caught.value.retry
        finally:
            for other in waiting:
                other.close()


@pytest.mark.parametrize(
    "behave",
    [
        lambda exchange: None,  # noqa: ARG005 - ends without a word
        lambda exchange: exchange.reset(),
        lambda exchange: exchange.send(b"SSH-2.0-OpenSSH_9.2p1\r\n"),
        lambda exchange: exchange.send(b"HTTP/1.1 200 OK\r\nconte"),
    ],
)
def test_no_http(behave):
    message, error = failure(behave)
    assert message.startswith("expected a reply over HTTP, got none (")
    assert error.retry


def chunked(exchange):
    """Half of a chunk of a stream, and the end."""
    exchange.head(content_type="text/event-stream", transfer_encoding="chunked")
    event = b"data: " + json.dumps(delta("Thought: I ")).encode() + b"\n\n"
    exchange.send(b"%x\r\n%b\r\n" % (len(event), event))
    exchange.send(b"ff\r\ndata: {")


@pytest.mark.parametrize("behave", [half("Thought: I "), chunked, begun(lambda exchange: exchange.reset())])
def test_half_a_reply_and_then_the_end(behave):
    message, error = failure(behave)
    assert (message, error.retry) == ("expected a whole reply, got 11 characters, and then the end", True)


@pytest.mark.parametrize("status", [200, 500])
def test_half_an_answer_in_one_piece(status):
    def behave(exchange):
        exchange.head(status, content_type="application/json", content_length=1000)
        exchange.send(b'{"choices": [')

    message, error = failure(behave)
    assert message.startswith("expected a reply over HTTP, got none (")
    assert error.retry


# Garbage --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"data: {'choices': 1}\n\n",
        b"data: {\n\n",
        b"data: \xff\xfe\n\n",
        begun,
        b"data: NaN, 1\n\n",
        b'data: "\\ud83d\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
    ],
    ids=lambda body: str(body)[:20],
)
def test_chunks_that_are_no_json(body):
    behave = begun(lambda exchange: exchange.events(b"<html>")) if body is begun else raw(body)
    message, error = failure(behave)
    assert message.startswith("expected chunks of JSON, got others: ")
    assert error.retry


@pytest.mark.parametrize(
    "body", [b"", b"\n\n\n", b"<html>It works!</html>", b"data: 5\n\n", b"data: null\n\ndata: []\n\n", b"\0\1\2" * 999]
)
def test_a_stream_of_something_else(body):
    message, error = failure(raw(body))
    assert (message, error.retry) == ("expected a whole reply, got none, and then the end", True)


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"\xff", b"[" * 100_000])
def test_an_answer_that_is_no_json(body):
    message, error = failure(raw(body, content_type="application/json"))
    assert message.startswith("expected chunks of JSON, got others: ")
    assert error.retry


def test_an_answer_in_one_piece_that_never_ends(monkeypatch):
    monkeypatch.setattr("visavis.gui.model.remote.LONGEST_REPLY", 10_000)
    message, _ = failure(raw(b" " * 20_000, content_type="application/json"))
    assert message == "expected chunks of JSON, got others: 10,000 bytes without an end"


def test_a_page_in_place_of_the_api():
    message, error = failure(raw(b"<html>Please log in</html>", content_type="text/html; charset=utf-8"))
    assert message == "expected JSON or a stream of events, got a page; is the address right? Most end in /v1"
    assert not error.retry


def test_a_body_that_is_not_compressed_as_it_says():
    message, error = failure(raw(b"data: 5\n\n", content_encoding="gzip"))
    assert message.startswith("expected a reply over HTTP, got none (")
    assert error.retry
    with Endpoint(
        raw(gzip.compress(b"data: " + json.dumps(delta(CLICK, "stop")).encode() + b"\n\n"), content_encoding="gzip")
    ) as endpoint:
        assert asked(endpoint.url).decide(CONTEXT).text == CLICK


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "message", "content", "usage", "prompt_tokens", "finish_reason", "error", "code"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(chunks=st.lists(JSON | st.fixed_dictionaries({"choices": st.lists(JSON, max_size=2)}), max_size=3))
def test_any_json_at_all(garbage_endpoint, chunks):
    """Whatever it sends, as a stream or in one piece, with any status: nothing but our errors comes out."""
    body = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    model = asked(garbage_endpoint.url)
    first = json.dumps(chunks[0] if chunks else None).encode()
    for behave in (
        raw(body),
        raw(first, content_type="application/json"),
        lambda exchange: exchange.json(400, chunks),
        lambda exchange: exchange.json(500, chunks[0] if chunks else {}),
    ):
        garbage_endpoint.behaviours = [behave]
        with pytest.raises((EndpointError, ReplyError)):
            model.decide(CONTEXT)


@pytest.fixture(scope="module")
def garbage_endpoint():
    with Endpoint(silent) as endpoint:
        yield endpoint


# What servers say -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "retry"),
    [
        (400, False),
        (404, False),
        (408, True),
        (409, True),
        (422, False),
        (425, True),
        (429, True),
        (500, True),
        (503, True),
    ],
)
@pytest.mark.parametrize("form", ["OpenAI", "vLLM", "FastAPI", "text", "HTML", "nothing"])
def test_errors_of_http(status, retry, form):
    said = "no such luck"
    forms = {
        "OpenAI": refused(status, said),
        "vLLM": lambda exchange: exchange.json(status, {"object": "error", "message": said, "code": status}),
        "FastAPI": lambda exchange: exchange.json(status, {"detail": said}),
        "text": lambda exchange: (exchange.head(status), exchange.send(said.encode())),
        "HTML": lambda exchange: (
            exchange.head(status, content_type="text/html"),
            exchange.send(f"<p>{said}</p>".encode()),
        ),
        "nothing": lambda exchange: exchange.head(status, content_length=0),
    }
    message, error = failure(forms[form])
    assert error.retry == retry
    assert form == "nothing" or said in message
    assert str(status) in message or status == 404


def test_an_address_that_is_not_the_api():
    message, error = failure(refused(404, "Not Found"), models=None)
    assert message == "Not Found; is the address right? Most end in /v1"
    assert not error.retry


def test_a_model_that_is_not_served():
    message, error = failure(refused(404, "The model `ui-tars` does not exist."), models=("qwen", "b"))
    assert message == "The model `ui-tars` does not exist.; it serves b, qwen, not ui-tars"
    assert not error.retry
    assert "it serves nothing" in failure(refused(404, "no"), models=())[0]


@pytest.mark.parametrize(
    "models",
    [
        lambda exchange: exchange.json(200, 5),
        lambda exchange: exchange.json(200, {"data": 5}),
        lambda exchange: exchange.json(200, {"data": [5]}),
        lambda exchange: exchange.json(500, {}),
        raw(b"<html>"),
        raw(b"{", content_type="application/json"),
        raw(b"{", content_type="application/json", content_length=99),
        lambda exchange: exchange.reset(),
    ],
)
def test_a_list_of_models_that_is_none(models):
    message, error = failure(refused(404, "Not Found"), models=models)
    assert message == "Not Found; is the address right? Most end in /v1"
    assert not error.retry


def test_the_list_of_models_does_not_hang(monkeypatch):
    monkeypatch.setattr("visavis.gui.model.remote.LIST_MODELS_S", SHORT_S)
    message, _ = failure(refused(404, "Not Found"), models=silent)
    assert message == "Not Found; is the address right? Most end in /v1"


@pytest.mark.parametrize(("status", "key", "wanted"), [(401, KEY, "another"), (403, KEY, "another"), (401, None, "an")])
def test_a_key_that_is_not_taken(status, key, wanted):
    message, error = failure(refused(status, "Invalid key"), api_key=key)
    assert (message, error.retry) == (f"expected {wanted} api_key, got {status}: Invalid key", False)


def test_a_request_that_is_too_large():
    message, error = failure(refused(413, "Request Entity Too Large"))
    assert message == "Request Entity Too Large; send image_format='jpeg', or fewer max_image_bytes"
    assert not error.retry


@pytest.mark.parametrize(
    "complaint",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "'max_tokens' or 'max_completion_tokens' is too large: 2048. This model's maximum context length is 1024.",
        "the request exceeds the available context size. try increasing the context size or enable context shift",
        "Input prompt is too long",
    ],
)
@pytest.mark.parametrize("status", [400, 500])
def test_a_context_that_is_too_long(complaint, status):
    with Endpoint(refused(status, complaint)) as endpoint:
        with pytest.raises(EndpointError) as caught:
            asked(endpoint.url).decide(CONTEXT)
        assert len(endpoint.requests) == 1
    assert str(caught.value).endswith("; give the agent fewer images or history_tokens, or the server a longer context")
    assert not caught.value.retry


@pytest.mark.parametrize(
    ("said", "wait_s"), [("2", 2.0), ("0.5", 0.5), ("0", 0.0), ("-1", 0.0), ("nan", 0.0), ("soon", 0.0), ("1e9", 0.0)]
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_says_when_to_come_back(status, said, wait_s):
    message, error = failure(refused(status, "Slow down", retry_after=said))
    assert (message, error.retry, error.wait_s) == (f"expected a reply, got {status}: Slow down", True, wait_s)


@pytest.mark.parametrize(
    ("error", "message", "retry"),
    [
        ({"message": "out of memory", "code": 500}, "expected a reply, got 500: out of memory", True),
        ({"message": "out of luck", "code": "400"}, "expected a reply, got 400: out of luck", False),
        ({"message": "busy"}, "expected a reply, got an error: busy", True),
        ("busy", "expected a reply, got an error: busy", True),
        ({"message": ["?"]}, "expected a reply, got an error: An error occurred during streaming", True),
    ],
)
def test_an_error_within_a_stream(error, message, retry):
    found, caught = failure(begun(lambda exchange: exchange.events({"error": error})))
    assert (found, caught.retry) == (message, retry)


def test_an_error_in_one_piece_that_calls_itself_a_success():
    found, caught = failure(lambda exchange: exchange.json(200, {"error": {"message": "busy"}}))
    assert (found, caught.retry) == ("expected a reply, got an error: busy", True)


@pytest.mark.parametrize("behave", [streamed("no", end="content_filter"), whole("no", end="content_filter")])
def test_a_reply_that_is_kept_back(behave):
    message, error = failure(behave)
    assert (message, error.retry) == ("expected a reply, but a filter of the server's keeps it back", False)


def test_images_that_a_server_never_takes():
    """One is the least there is to be sent: then it is an error."""
    context = Context("Log in", screenshot(), (turn(1),))
    message, error = failure(refused(400, "At most 0 image(s) may be provided in one request."), context=context)
    assert message == "expected a reply, got 400: At most 0 image(s) may be provided in one request."
    assert not error.retry
    few = refused(429, "Rate limit reached for images per minute: Limit 1")
    with Endpoint(few) as endpoint:
        model = asked(endpoint.url)
        with pytest.raises(EndpointError, match="got 429"):
            model.decide(context)
        assert model.images is None  # it takes two, but not now
    with Endpoint(refused(400, "This model does not support multiple images.")) as endpoint:
        with pytest.raises(EndpointError, match="does not support multiple images"):
            asked(endpoint.url).decide(context)
        assert len(endpoint.requests) == 2


def test_a_long_complaint_is_cut():
    message, _ = failure(refused(400, "x" * 10_000))
    assert message == f"expected a reply, got 400: {'x' * 300} ..."


# Secrets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behave",
    [
        refused(401, f"Incorrect API key provided: {KEY}"),
        refused(404, f"not for Bearer {KEY}"),
        refused(500, f"{'x' * 290}{KEY}"),  # where it is cut
        lambda exchange: (exchange.head(502), exchange.send(f"authorization: Bearer {KEY}".encode())),
        begun(lambda exchange: exchange.events({"error": {"message": KEY}})),
        begun(lambda exchange: exchange.events(KEY.encode())),
        lambda exchange: exchange.send(f"{KEY}\r\n".encode()),
        raw(KEY.encode(), content_type=f"text/{KEY}"),
        silent,
    ],
)
def test_a_key_is_in_no_error(behave):
    with Endpoint(behave, models=(f"model-of-{KEY}",)) as endpoint:
        model = asked(endpoint.url, api_key=KEY, first_token_s=2.0)
        with pytest.raises(EndpointError) as caught:
            model.decide(CONTEXT)
    told = "".join(traceback.format_exception(caught.value))
    assert KEY[:10] not in f"{told}{caught.value!r}{model!r}{model.name}"
    assert endpoint.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_key_that_is_a_word_does_not_garble_what_is_said():
    assert failure(refused(400, "none of that"), api_key="none")[0] == "expected a reply, got 400: none of that"


def test_a_password_in_an_address_is_in_no_error():
    with Endpoint(refused(401, "Who are you?")) as endpoint:
        model = asked(endpoint.url.replace("://", "://me:sesame@"))
        with pytest.raises(EndpointError) as caught:
            model.decide(CONTEXT)
    assert str(caught.value) == f"{endpoint.url}: expected an api_key, got 401: Who are you?"
    assert "sesame" not in f"{''.join(traceback.format_exception(caught.value))}{caught.value!r}{model!r}"
    assert endpoint.requests[0].headers["authorization"] == "Basic bWU6c2VzYW1l"
