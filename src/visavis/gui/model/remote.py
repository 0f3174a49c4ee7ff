"""A model that is served elsewhere: by vLLM, llama.cpp or anything else that speaks OpenAI's chat completions.

Replies are streamed, so that a server that hangs is told from one that is slow. What fails is an `EndpointError` that
names the likely cause, and says whether asking again may help; asking again is for the caller.
"""

import asyncio
import ipaddress
import re
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
LIST_MODELS_S = 5.0
PASSING = (408, 409, 425, 429)  # and those from 500 on

_TOO_LONG = re.compile(
    r"context[ _](length|size|window)|maximum model length|too many tokens|prompt is too long", re.IGNORECASE
)
_MOST_IMAGES = re.compile(
    r"\b(?:at most|up to|only|single|max(?:imum)?|limit(?:ed)?|supports?)\b[^\d]{0,30}?\b(\d{1,3}|one|single)\b",
    re.IGNORECASE,
)
_SEVERAL_IMAGES = re.compile(r"\b(too many|multiple|several|more than one)\b", re.IGNORECASE)


@dataclass(slots=True)
class _Answer:
    """A reply as far as it has come."""

    text: str = ""
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
        InputError: an address that is none, a key that cannot be sent, or a limit below 1.

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
        if answer.end == "length":
            raise ReplyError(
                f"the reply was cut off after {self.max_tokens} tokens; think in fewer words, and come to the action",
                answer.text,
            )
        reply = self.dialect.parse(answer.text, context.screenshot.size)
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
                return _run(self._stream(self._request(told)))
            except openai.APIError as error:
                if not self._adapts(_complaint(error), shown):
                    raise self._failure(error) from error

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
        import openai

        answer = _Answer()
        begun = asyncio.get_running_loop().time()
        async with openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=self._api_key or "none",
            organization="",
            project="",
            max_retries=0,
            timeout=openai.Timeout(None, connect=self.connect_s),
            http_client=openai.DefaultAsyncHttpxClient(trust_env=not self._is_here),
        ) as client:
            try:
                async with asyncio.timeout_at(begun + min(self.first_token_s, self.total_s)) as limit:
                    stream: Any = await client.chat.completions.create(**request)
                    async with stream:
                        async for chunk in stream:
                            _take(answer, chunk)
                            if answer.text:
                                limit.reschedule(begun + self.total_s)
                            if len(answer.text) > LONGEST_REPLY:
                                raise self._error(f"expected a reply, got {LONGEST_REPLY:,} characters without an end")
            except TimeoutError:
                wanted, seconds = ("a whole reply", self.total_s) if answer.text else ("a token", self.first_token_s)
                raise self._error(f"expected {wanted} within {seconds:g} s, got {_got(answer)}", retry=True) from None
            except ValueError as error:  # no JSON, or no UTF-8
                raise self._error(f"expected chunks of JSON, got others: {_line(str(error))}", retry=True) from error
            except openai.NotFoundError as error:
                raise self._error(f"{_complaint(error)}{await self._models(client)}") from error
            except openai.APIConnectionError as error:
                if not answer.text:
                    raise
                raise self._error(
                    f"expected a whole reply, got {_got(answer)}, and then the end", retry=True
                ) from error
        if not answer.end:
            raise self._error(f"expected a whole reply, got {_got(answer)}, and then the end", retry=True)
        if answer.end == "content_filter":
            raise self._error("expected a reply, but a filter of the server's keeps it back")
        return answer

    async def _models(self, client: "AsyncOpenAI") -> str:
        """What to do about an address or a model that is not there."""
        import openai

        try:
            listed = await client.models.list(timeout=LIST_MODELS_S)
            names = ", ".join(sorted(str(model.id) for model in listed.data))
        except (openai.OpenAIError, AttributeError, TypeError, ValueError):
            return "; is the address right? Most end in /v1"
        return f"; it serves {_line(names) or 'nothing'}, not {self.name}"

    def _adapts(self, complaint: str, shown: int) -> bool:
        """Whether the server may take the request in another form, which the next one has."""
        if "max_completion_tokens" in complaint and self._limit_name == "max_tokens":
            self._limit_name = "max_completion_tokens"
            return True
        if shown > 1 and "image" in complaint.lower():
            found = _MOST_IMAGES.search(complaint)
            most = int(found[1]) if found and found[1].isdecimal() else 1
            if (found or _SEVERAL_IMAGES.search(complaint)) and 0 < most < shown:
                self.images = most
                return True
        return False

    def _failure(self, error: "APIError") -> EndpointError:
        import openai

        if isinstance(error, openai.APIConnectionError):
            cause = f" ({_line(str(error.__cause__))})" if error.__cause__ else ""
            return self._error(f"expected a connection, got none{cause}; does the server run there?", retry=True)
        said = _complaint(error)
        status = _status(error)
        if status in (401, 403):
            return self._error(f"expected an api_key that it takes, got {status}: {said}")
        if status != 429 and (_TOO_LONG.search(said) or error.code == "context_length_exceeded"):
            return self._error(f"{said}; give the agent fewer images or history_tokens, or the server a longer context")
        if status == 413:
            return self._error(f"{said}; send image_format='jpeg', or fewer max_image_bytes")
        return self._error(
            f"expected a reply, got {status or 'an error'}: {said}",
            retry=status is None or status >= 500 or status in PASSING,
        )

    def _error(self, problem: str, *, retry: bool = False) -> EndpointError:
        return EndpointError(f"{self._shown}: {problem}", retry=retry)


def _address(url: str) -> tuple[str, bool]:
    """An address without a password in it, and whether it is of this computer."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise InputError(f"base_url: expected an address such as http://127.0.0.1:8000/v1, got {url!r}")
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


def _take(answer: _Answer, chunk: Any) -> None:
    """Add a chunk of a stream, of which a server may have put anything into anything."""
    usage = getattr(chunk, "usage", None)
    for name in ("prompt_tokens", "completion_tokens"):
        if isinstance(count := getattr(usage, name, None), int):
            setattr(answer, name, max(0, count))
    choices = getattr(chunk, "choices", None)
    for choice in choices[:1] if isinstance(choices, list) else ():
        if isinstance(text := getattr(getattr(choice, "delta", None), "content", None), str):
            answer.text += text
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


def _complaint(error: "APIError") -> str:
    said = error.body.get("message") if isinstance(error.body, dict) else error.body
    return _line(said if isinstance(said, str) and said.strip() else error.message)


def _line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_COMPLAINT else f"{text[:LONGEST_COMPLAINT]} ..."
