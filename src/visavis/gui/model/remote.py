"""A model that is served elsewhere: by vLLM, llama.cpp or anything else that speaks OpenAI's chat completions.

Replies are streamed, so that a server that hangs is told from one that is slow. What fails is an `EndpointError` that
names the likely cause, and says whether asking again may help; asking again is for the caller.
"""

import asyncio
import ipaddress
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from visavis.errors import EndpointError, InputError, MissingExtraError, ReplyError
from visavis.gui.actions import Dialect
from visavis.gui.model.messages import Message, messages
from visavis.gui.model.pictures import Format, data_url
from visavis.gui.model.protocol import Context, Decision
from visavis.gui.screen import Screenshot

if TYPE_CHECKING:
    from openai import APIError, AsyncOpenAI

__all__ = ["RemoteModel"]

LONGEST_REPLY = 1_000_000  # characters; a server that never ends is cut off
LONGEST_COMPLAINT = 300
SHORTEST_KEY = 8  # letters; a shorter one keeps no secret, and may be a word such as "none"
LIST_MODELS_S = 5.0
POLL_S = 0.2
WRONG_ADDRESS = "is the address right? Most end in /v1"
PASSING = (408, 409, 425, 429)  # and those from 500 on

_TOO_LONG = re.compile(
    r"context[ _](length|size|window)|maximum model length|too many tokens|prompt is too long", re.IGNORECASE
)
# How servers say how many images they take; the first of these that is found counts.
_MOST_IMAGES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\bimage['\"]?\s*[=:]\s*(\d+)",
        r"\b(?:at most|up to|only|max(?:imum)?|limit(?:ed)?|supports?)\b[^\d]{0,30}?\b(\d{1,3})\b",
        r"\b(?:at most|up to|only|max(?:imum)?|limit(?:ed)?|supports?)\b[^\d]{0,30}?\b(?:one|single)\b",
        r"\b(?:too many|multiple|several|more than one)\b",
    )
)


@dataclass(slots=True)
class _Answer:
    """A reply as far as it has come."""

    text: str = ""
    begun: bool = False  # a token has come, if only of what the model thinks before it replies
    end: str = ""  # why the model stopped; "": it has not
    prompt_tokens: int = 0
    completion_tokens: int = 0


class RemoteModel:
    """Asks an endpoint; from any number of threads at once, and it may be pickled.

    Args:
        base_url: of the server's API, such as http://127.0.0.1:8000/v1.
        model: its name there.
        dialect: how it is spoken with.
        api_key: sent as a bearer token; None: none is, whatever the environment holds.
        images: the most screenshots that the server takes, of which the last are sent; None: all that a context has.
            A server that says it takes fewer is believed.
        image_format: what they are sent as.
        max_image_bytes: of one; more is sent as JPEG, of lower and lower quality.
        max_tokens: of a reply.
        temperature: of sampling; None: the server's own.
        planning: explain to the model how to state a plan; see `visavis.gui.plan`.
        language: that it thinks in.
        connect_s: how long to wait for a connection.
        first_token_s: how long to wait for the first token of a reply, which is after the screenshots were read.
        total_s: how long to wait for the whole of it.

    Raises:
        InputError: an address that is none, a key that cannot be sent, a limit below 1, or a time that is none.

    >>> from visavis.gui.actions import UI_TARS_1_5
    >>> RemoteModel("http://127.0.0.1:8000/v1", "ui-tars-1.5-7b", dialect=UI_TARS_1_5).name
    'ui-tars-1.5-7b'
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        dialect: Dialect,
        api_key: str | None = None,
        images: int | None = None,
        image_format: Format = "png",
        max_image_bytes: int = 5_000_000,
        max_tokens: int = 2048,
        temperature: float | None = 0.0,
        planning: bool = True,
        language: str = "English",
        connect_s: float = 10.0,
        first_token_s: float = 120.0,
        total_s: float = 300.0,
    ) -> None:
        for limit, value in (("images", images), ("max_tokens", max_tokens), ("max_image_bytes", max_image_bytes)):
            if value is not None and value < 1:
                raise InputError(f"{limit}: expected at least 1, got {value}")
        for time, seconds in (("connect_s", connect_s), ("first_token_s", first_token_s), ("total_s", total_s)):
            if not seconds > 0:
                raise InputError(f"{time}: expected more than 0, got {seconds:g}")
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key.strip()):
            raise InputError("api_key: expected printable ASCII letters, got others or none")
        self.base_url, self.name, self.dialect = base_url, model, dialect
        self.images, self.image_format, self.max_image_bytes = images, image_format, max_image_bytes
        self.max_tokens, self.temperature = max_tokens, temperature
        self.planning, self.language = planning, language
        self.connect_s, self.first_token_s, self.total_s = connect_s, first_token_s, total_s
        self._api_key = api_key
        self._shown, self._is_here = _address(base_url)
        self._limit_name = "max_tokens"

    def decide(self, context: Context) -> Decision:
        """Ask, and read the reply.

        Raises:
            ReplyError: it does not parse, or was cut at `max_tokens`.
            EndpointError: no whole reply came.
            InputError: a screenshot of a form that the dialect has no size for, or that stays too large.
            MissingExtraError: openai is not installed.
        """
        answer = self._ask(context)
        try:
            if answer.end == "length":
                problem = f"the reply was cut off after {self.max_tokens} tokens"
                raise ReplyError(f"{problem}; think in fewer words, and come to the action", answer.text)
            reply = self.dialect.parse(answer.text, context.screenshot.size)
        except ReplyError as error:
            error.tokens = answer.prompt_tokens + answer.completion_tokens
            raise
        return Decision(answer.text, reply.thought, reply.actions, answer.prompt_tokens, answer.completion_tokens)

    def _ask(self, context: Context) -> _Answer:
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError("openai: expected it to be installed; pip install 'visavis[gui]'") from error
        while True:
            told = messages(context, self.dialect, images=self.images, planning=self.planning, language=self.language)
            shown = sum(isinstance(part, Screenshot) for message in told for part in message.parts)
            try:
                return _run(self._unless(context.abandoned, self._stream(self._request(told))))
            except openai.APIError as error:
                if not self._adapts(error, shown):
                    raise self._failure(error) from None  # what it says may hold the key

    async def _unless(self, abandoned: Callable[[], bool], asked: Coroutine[Any, Any, _Answer]) -> _Answer:
        """The answer, unless nobody waits for it any more: then the server is left, which ends its work."""
        task = asyncio.ensure_future(asked)
        while not task.done():
            await asyncio.wait([task], timeout=POLL_S)
            if abandoned():
                task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            raise self._error("expected somebody who waits for the reply, got none") from None

    def _sent(self, message: Message[Screenshot]) -> dict[str, Any]:
        """A message as the API has it; texts alone are one string, which every server takes."""
        if all(isinstance(part, str) for part in message.parts):
            return {"role": message.role, "content": "\n\n".join(map(str, message.parts))}
        content = [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image_url", "image_url": {"url": self._picture(part)}}
            for part in message.parts
        ]
        return {"role": message.role, "content": content}

    def _picture(self, screenshot: Screenshot) -> str:
        size = self.dialect.image_size(screenshot.size)
        return data_url(screenshot, size, self.image_format, self.max_image_bytes)

    def _request(self, told: list[Message[Screenshot]]) -> dict[str, Any]:
        request = {
            "model": self.name,
            "messages": [self._sent(message) for message in told],
            "stream": True,
            "stream_options": {"include_usage": True},
            self._limit_name: self.max_tokens,
        }
        return request if self.temperature is None else {**request, "temperature": self.temperature}

    async def _stream(self, request: dict[str, Any]) -> _Answer:
        import httpx2
        import openai

        answer = _Answer()
        async with self._client() as client:
            try:
                await self._receive(answer, client, request)
            except openai.NotFoundError as error:
                raise self._error(f"{self._complaint(error)}{await self._models(client)}") from None
            except (openai.APIConnectionError, httpx2.RequestError) as error:  # openai lets some through
                if not answer.begun:
                    raise self._unreached(error) from None
        if answer.end == "content_filter":
            raise self._error("expected a reply, but a filter of the server's keeps it back")
        if not answer.end:
            raise self._error(f"expected a whole reply, got {_got(answer)}, and then the end", retry=True)
        return answer

    async def _receive(self, answer: _Answer, client: "AsyncOpenAI", request: dict[str, Any]) -> None:
        """Fill in the answer, as long as it comes."""
        begun = asyncio.get_running_loop().time()
        first_s = min(self.first_token_s, self.total_s)
        try:
            async with asyncio.timeout_at(begun + first_s) as limit:
                stream: Any = await client.chat.completions.create(**request, extra_headers=self._headers())
                async with stream:
                    if "text/html" in _kind(stream):
                        raise self._error(f"expected JSON or a stream of events, got a page; {WRONG_ADDRESS}")
                    async for chunk in _chunks(stream):
                        _take(answer, chunk)
                        if answer.begun:
                            limit.reschedule(begun + self.total_s)
                        if len(answer.text) > LONGEST_REPLY:
                            raise self._error(f"expected a reply, got {LONGEST_REPLY:,} characters without an end")
        except TimeoutError:
            if not answer.end:
                wanted, seconds = ("a whole reply", self.total_s) if answer.begun else ("a token", first_s)
                raise self._error(f"expected {wanted} within {seconds:g} s, got {_got(answer)}", retry=True) from None
        except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or JSON too deep
            problem = f"expected chunks of JSON, got others: {self._said(str(error))}"
            raise self._error(problem, retry=True) from None

    def _client(self) -> "AsyncOpenAI":
        import openai

        return openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=self._api_key or "none",
            max_retries=0,
            timeout=openai.Timeout(None, connect=self.connect_s),
            http_client=openai.DefaultAsyncHttpxClient(trust_env=not self._is_here, verify=_certificates()),
        )

    def _headers(self) -> dict[str, Any]:
        """What the library would take from the environment, or make up, and is not to be sent."""
        import openai

        unwanted = ["OpenAI-Organization", "OpenAI-Project", *([] if self._api_key else ["Authorization"])]
        return dict.fromkeys(unwanted, openai.omit)

    async def _models(self, client: "AsyncOpenAI") -> str:
        """What to do about an address or a model that is not there."""
        import openai

        try:
            async with asyncio.timeout(LIST_MODELS_S):
                listed = await client.models.list(extra_headers=self._headers())
            names = ", ".join(sorted(str(model.id) for model in listed.data))
        except (openai.OpenAIError, AttributeError, TimeoutError, TypeError, ValueError):
            return f"; {WRONG_ADDRESS}"
        return f"; it serves {self._said(names) or 'nothing'}, not {self.name}"

    def _adapts(self, error: "APIError", shown: int) -> bool:
        """Whether the server may take the request in another form, which the next one has."""
        complaint = self._complaint(error)
        if _status(error) == 429 or _TOO_LONG.search(complaint):  # it takes this form, but not now or not so long
            return False
        if "max_completion_tokens" in complaint and self._limit_name == "max_tokens":
            self._limit_name = "max_completion_tokens"
            return True
        most = _most_images(complaint)
        if most is None or not 0 < most < shown:
            return False
        self.images = most
        return True

    def _failure(self, error: "APIError") -> EndpointError:
        said = self._complaint(error)
        status = _status(error)
        if status in (401, 403):
            wanted = "another api_key" if self._api_key else "an api_key"
            return self._error(f"expected {wanted}, got {status}: {said}")
        if status != 429 and (_TOO_LONG.search(said) or error.code == "context_length_exceeded"):
            return self._error(f"{said}; give the agent fewer images or history_tokens, or the server a longer context")
        if status == 413:
            return self._error(f"{said}; send image_format='jpeg', or fewer max_image_bytes")
        return self._error(
            f"expected a reply, got {status or 'an error'}: {said}",
            retry=status is None or status >= 500 or status in PASSING,
            wait_s=_wait_s(error),
        )

    def _unreached(self, error: Exception) -> EndpointError:
        cause = error.__cause__ or error
        said = self._said(str(cause)) or type(cause).__name__
        if "Connect" in type(cause).__name__:
            return self._error(f"expected a connection, got none ({said}); does the server run there?", retry=True)
        return self._error(f"expected a reply over HTTP, got none ({said})", retry=True)

    def _error(self, problem: str, *, retry: bool = False, wait_s: float = 0.0) -> EndpointError:
        return EndpointError(f"{self._shown}: {problem}", retry=retry, wait_s=wait_s)

    def _complaint(self, error: "APIError") -> str:
        said = error.body.get("message") if isinstance(error.body, dict) else error.body
        if not (isinstance(said, str) and said.strip()):
            response = getattr(error, "response", None)
            said = error.message if response is None else response.text.strip() or error.message
        return self._said(said)

    def _said(self, text: str) -> str:
        """What a server says in one short line; one that repeats the key is not quoted with it."""
        if self._api_key and len(self._api_key) >= SHORTEST_KEY:
            text = text.replace(self._api_key, "[api_key]")
        text = " ".join(text.split())
        return text if len(text) <= LONGEST_COMPLAINT else f"{text[:LONGEST_COMPLAINT]} ..."


def _address(url: str) -> tuple[str, bool]:
    """An address without a password in it, and whether it is of this computer."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        shown = re.sub(r"//[^/]*@", "//", url)
        raise InputError(f"base_url: expected an address such as http://127.0.0.1:8000/v1, got {shown!r}")
    name = f"[{host}]" if ":" in host else host
    shown = f"{parts.scheme}://{name}{'' if port is None else f':{port}'}{parts.path}"
    try:
        return shown, ipaddress.ip_address(host).is_loopback
    except ValueError:
        return shown, host == "localhost"


def _run(asked: Coroutine[Any, Any, _Answer]) -> _Answer:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(asked)
    with ThreadPoolExecutor(1) as thread:  # a notebook's own loop is busy with the cell
        return thread.submit(asyncio.run, asked).result()


@cache
def _certificates() -> Any:
    """Read once: that takes longer than to send a request."""
    import httpx2

    return httpx2.create_ssl_context()


def _kind(stream: Any) -> str:
    return str(stream.response.headers.get("content-type", ""))


async def _chunks(stream: Any) -> AsyncIterator[Any]:
    """Of a stream; a server that does not stream sends one, as it is."""
    import openai

    if "json" not in _kind(stream):
        async for chunk in stream:
            yield chunk
        return
    data = b""
    async for part in stream.response.aiter_bytes():
        data += part
        if len(data) > LONGEST_REPLY:
            raise ValueError(f"{LONGEST_REPLY:,} bytes without an end")
    chunk = json.loads(data, object_hook=lambda found: SimpleNamespace(**found))
    if error := getattr(chunk, "error", None):
        body = vars(error) if isinstance(error, SimpleNamespace) else error
        raise openai.APIError("it does not say why", stream.response.request, body=body)
    yield chunk


def _take(answer: _Answer, chunk: Any) -> None:
    """Add a chunk of a stream, of which a server may have put anything into anything."""
    usage = getattr(chunk, "usage", None)
    for name in ("prompt_tokens", "completion_tokens"):
        if isinstance(count := getattr(usage, name, None), int):
            setattr(answer, name, max(0, count))
    choices = getattr(chunk, "choices", None)
    for choice in choices[:1] if isinstance(choices, list) else ():
        said = getattr(choice, "delta", None) or getattr(choice, "message", None)
        texts = [getattr(said, name, None) for name in ("content", "reasoning_content", "reasoning")]
        answer.begun = answer.begun or any(texts)
        if isinstance(texts[0], str):
            answer.text += texts[0]
        if isinstance(end := getattr(choice, "finish_reason", None), str):
            answer.end = end


def _got(answer: _Answer) -> str:
    return f"{len(answer.text):,} characters" if answer.text else "none"


def _status(error: "APIError") -> int | None:
    """Of HTTP; an error within a stream has it as its code, if at all."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status
    return int(error.code) if error.code is not None and re.fullmatch(r"[45]\d\d", error.code) else None


def _most_images(complaint: str) -> int | None:
    """How many images a server says that it takes; None: that is not what it complains about."""
    if "image" not in complaint.lower():
        return None
    for pattern in _MOST_IMAGES:
        if found := pattern.search(complaint):
            return int(found[1]) if pattern.groups else 1
    return None


def _wait_s(error: "APIError") -> float:
    """Seconds after which the server wants to be asked again; 0: it does not say."""
    response = getattr(error, "response", None)
    said = "" if response is None else response.headers.get("retry-after", "")
    return float(said) if re.fullmatch(r"\d{1,6}(\.\d{1,6})?", said) else 0.0
