"""A real HTTP server on this computer that speaks OpenAI's chat completions, and misbehaves as it is told to."""

import base64
import io
import json
import socket
import struct
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
from PIL import Image

LONGEST_WAIT_S = 60


class Endpoint:
    """Meets each request for a chat with the next of its behaviours, and with the last one for ever.

    A behaviour is a function of an `Exchange`. `models` is the list of models: names, a behaviour, or None: there is no
    such list. `requests` holds what was sent, `url` is the base of the API.
    """

    def __init__(self, *behaviours, models=("ui-tars",)):
        self.behaviours, self.models = list(behaviours), models
        self.requests = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                with endpoint._lock:
                    endpoint.requests.append(SimpleNamespace(path=self.path, headers=self.headers, body=body))
                    behave = endpoint.behaviours.pop(0) if len(endpoint.behaviours) > 1 else endpoint.behaviours[0]
                self.close_connection = True
                with suppress(ConnectionError):  # the client may leave
                    behave(Exchange(self, endpoint))

            def do_GET(self):
                self.close_connection = True
                exchange = Exchange(self, endpoint)
                if callable(endpoint.models):
                    with suppress(ConnectionError):
                        endpoint.models(exchange)
                elif self.path == "/v1/models" and endpoint.models is not None:
                    data = [{"id": name, "object": "model"} for name in endpoint.models]
                    exchange.json(200, {"object": "list", "data": data})
                else:
                    exchange.json(404, {"detail": "Not Found"})

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = False  # so that closing it waits for them

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, error, where):
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def chats(self):
        """The messages of each request."""
        return [json.loads(request.body)["messages"] for request in self.requests]


class Exchange:
    """One request that is being answered."""

    def __init__(self, handler, endpoint):
        self._handler, self._endpoint = handler, endpoint

    def head(self, status=200, **headers):
        """Headers, and nothing of what follows; underscores stand for hyphens."""
        self._handler.send_response(status)
        for name, value in ({"connection": "close"} | headers).items():
            self._handler.send_header(name.replace("_", "-"), str(value))
        self._handler.end_headers()

    def send(self, data):
        """Bytes, as they are."""
        self._handler.wfile.write(data)
        self._handler.wfile.flush()

    def events(self, *events):
        """Server-sent events, as JSON if they are not bytes."""
        for event in events:
            self.send(b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n")

    def json(self, status, value, **headers):
        """A whole answer."""
        data = json.dumps(value).encode()
        self.head(status, content_type="application/json", content_length=len(data), **headers)
        self.send(data)

    def hang(self):
        """Until the endpoint closes or the client has left."""
        self._handler.connection.settimeout(0.05)
        for _ in range(20 * LONGEST_WAIT_S):
            if self._endpoint.closing.is_set():
                return
            try:
                if self._handler.connection.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
        raise AssertionError("nobody ends this")

    def drip(self, data, pause_s=0.02):
        """The same bytes again and again, until the endpoint closes or the client has left."""
        for _ in range(int(LONGEST_WAIT_S / pause_s)):
            self.send(data)
            if self._endpoint.closing.wait(pause_s):
                return
        raise AssertionError("nobody ends this")

    def reset(self):
        """End the connection as a crash does."""
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._handler.connection.close()


def delta(text, end=None, **more):
    """An event of a stream."""
    return {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": end}],
    } | more


def streamed(text, *, end="stop", piece=7, usage=(11, 5)):
    """A reply in pieces of some letters, then its end, what it took, and DONE; as vLLM does."""

    def behave(exchange):
        exchange.head(content_type="text/event-stream; charset=utf-8")
        exchange.events({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        exchange.events(*(delta(text[start : start + piece]) for start in range(0, len(text), piece)))
        exchange.events(delta("", end))
        if usage:
            exchange.events({"choices": [], "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}})
        exchange.events(b"[DONE]")

    return behave


def whole(text, *, end="stop", usage=(11, 5)):
    """A reply in one piece, as a server sends that does not stream."""
    message = {"role": "assistant", "content": text}
    value = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": end}]}
    value["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return lambda exchange: exchange.json(200, value)


def refused(status, message, **headers):
    """An error in the form of OpenAI's API."""
    error = {"error": {"message": message, "type": "error", "param": None, "code": None}}
    return lambda exchange: exchange.json(status, error, **headers)


def raw(data, **headers):
    """Any bytes as the body, and then the end."""

    def behave(exchange):
        exchange.head(**({"content_type": "text/event-stream"} | headers))
        exchange.send(data)

    return behave


def half(text):
    """A reply whose connection ends before it does."""

    def behave(exchange):
        exchange.head(content_type="text/event-stream")
        exchange.events(delta(text))

    return behave


def silent(exchange):
    """Takes the request, and says nothing."""
    exchange.hang()


def seen(part):
    """The pixels of a picture that was sent, uint8 [H, W, 3], and its format."""
    head, _, data = part["image_url"]["url"].partition(";base64,")
    with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
        assert head == f"data:image/{image.format.lower()}"
        return np.array(image.convert("RGB")), image.format
