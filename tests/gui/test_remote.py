"""What an endpoint is asked, and how its replies are taken; what goes wrong is in test_remote_faults.py."""

import asyncio
import base64
import json
import pickle
import threading

import numpy as np
import pytest
from PIL import Image

from tests.gui.endpoint import Endpoint, delta, refused, seen, streamed, whole
from visavis.errors import InputError, ReplyError
from visavis.gui.actions import JSON_TOOLS, UI_TARS_1_0, UI_TARS_1_5, Click, Finished, Type
from visavis.gui.model import Context, Decision, RemoteModel, Turn
from visavis.gui.screen import Screenshot

SIZE = (560, 420)  # of which the dialects keep every pixel
CLICK = "Thought: 我点“登录”。\nAction: click(point='<point>30 40</point>')"
DECISION = Decision(CLICK, "我点“登录”。", (Click((30, 40)),), 11, 5)


def screenshot(seed=0, size=SIZE):
    width, height = size
    return Screenshot(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def turn(number, *, picture=True, remarks=()):
    text = f"Thought: step {number}\nAction: type(content='{number}')"
    decision = Decision(text, f"step {number}", (Type(str(number)),))
    return Turn(screenshot(number) if picture else None, decision, remarks)


def asked(url, **options):
    return RemoteModel(url, "ui-tars", **({"dialect": UI_TARS_1_5} | options))


def parts(chat):
    """All texts and pictures of a chat in order, each with its role; texts between pictures are one."""
    for message in chat:
        content, texts = message["content"], []
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "text":
                texts.append(part["text"])
            else:
                assert part["type"] == "image_url"
                if texts:
                    yield message["role"], "\n\n".join(texts)
                    texts = []
                yield message["role"], seen(part)[0]
        if texts:
            yield message["role"], "\n\n".join(texts)


# Replies --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_streamed_reply(piece):
    with Endpoint(streamed(CLICK, piece=piece)) as endpoint:
        assert asked(endpoint.url).decide(Context("Log in", screenshot())) == DECISION


def test_a_reply_of_a_server_that_does_not_stream():
    with Endpoint(whole(CLICK)) as endpoint:
        assert asked(endpoint.url).decide(Context("Log in", screenshot())) == DECISION


def test_characters_cut_by_the_network_are_whole_again():
    data = b"".join(b"data: " + json.dumps(delta(letter), ensure_ascii=False).encode() + b"\n\n" for letter in CLICK)
    data += b"data: " + json.dumps(delta("", "stop")).encode() + b"\r\n\r\n: a remark\n\ndata: [DONE]\n\n"

    def behave(exchange):
        exchange.head(content_type="text/event-stream")
        for start in range(0, len(data), 5):
            exchange.send(data[start : start + 5])

    with Endpoint(behave) as endpoint:
        assert asked(endpoint.url).decide(Context("Log in", screenshot())).text == CLICK


def test_a_server_that_does_not_count_tokens():
    with Endpoint(streamed(CLICK, usage=None)) as endpoint:
        decision = asked(endpoint.url).decide(Context("Log in", screenshot()))
        assert (decision.prompt_tokens, decision.completion_tokens) == (0, 0)


def test_a_server_that_leaves_the_connection_open_after_the_end():
    def behave(exchange):
        streamed(CLICK)(exchange)
        exchange.hang()

    with Endpoint(behave) as endpoint:
        assert asked(endpoint.url).decide(Context("Log in", screenshot())) == DECISION


def test_what_a_model_thinks_before_its_reply_keeps_it_alive():
    """A server may take the reasoning of a model out of its reply; it comes long before the first letter of that."""

    def behave(exchange):
        exchange.head(content_type="text/event-stream")
        exchange.events({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]})
        reasoned.wait(30)
        exchange.events(delta(CLICK, "stop"), b"[DONE]")

    reasoned = threading.Event()
    with Endpoint(behave) as endpoint:
        timer = threading.Timer(2.5, reasoned.set)
        timer.start()
        assert asked(endpoint.url, first_token_s=2.0).decide(Context("Log in", screenshot())).text == CLICK
        timer.join()


@pytest.mark.parametrize("text", ["", " \n", "I am lost.", "Action: clack()"])
def test_a_reply_that_does_not_parse_is_one_and_says_why(text):
    with Endpoint(streamed(text)) as endpoint, pytest.raises(ReplyError) as caught:
        asked(endpoint.url).decide(Context("Log in", screenshot()))
    assert caught.value.reply == text
    with pytest.raises(ReplyError) as same:
        UI_TARS_1_5.parse(text, SIZE)
    assert str(caught.value) == str(same.value)


def test_a_reply_that_is_cut_off():
    cut = streamed(CLICK, end="length")
    with Endpoint(cut) as endpoint, pytest.raises(ReplyError, match="^the reply was cut off after 77 tokens") as caught:
        asked(endpoint.url, max_tokens=77).decide(Context("Log in", screenshot()))
    assert caught.value.reply == CLICK  # although it would parse


def test_two_at_once_and_in_a_loop_and_from_another_process():
    with Endpoint(streamed(CLICK)) as endpoint:
        model = pickle.loads(pickle.dumps(asked(endpoint.url, api_key="sk-123456789")))
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(model.decide(Context("Log in", screenshot()))))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [DECISION] * 4

        async def cell():
            return model.decide(Context("Log in", screenshot()))

        assert asyncio.run(cell()) == DECISION
        assert {request.headers["authorization"] for request in endpoint.requests} == {"Bearer sk-123456789"}


# Requests -------------------------------------------------------------------------------------------------------------


def test_the_request_is_what_the_api_asks_for(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-somebody")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/elsewhere")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # this computer is reached without one
    with Endpoint(streamed(CLICK)) as endpoint:
        asked(endpoint.url, max_tokens=99).decide(Context("Log in", screenshot()))
        asked(endpoint.url, temperature=None).decide(Context("Log in", screenshot()))
    first, second = endpoint.requests
    assert first.path == "/v1/chat/completions"
    assert first.headers["content-type"] == "application/json"
    assert first.headers["authorization"] is None
    assert "somebody" not in str(first.headers)
    body = json.loads(first.body)
    body.pop("messages")
    assert body == {
        "model": "ui-tars",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 99,
        "temperature": 0.0,
    }
    assert "temperature" not in json.loads(second.body)
    assert json.loads(second.body)["max_tokens"] == 2048


def test_a_whole_run_is_told_in_order():
    """UI-TARS' own order: the task, then what was seen and said in each step, then what is seen now."""
    turns = (turn(1, picture=False), turn(2, remarks=("The screen did not change.",)), turn(3))
    context = Context(
        "Log in as \ud83d 李", screenshot(), turns, ("It was done before.",), (("open", True), ("log in", False))
    )
    with Endpoint(streamed(CLICK)) as endpoint:
        asked(endpoint.url).decide(context)
        chat = endpoint.chats()[0]
    assert [message["role"] for message in chat] == ["user", "assistant"] * 3 + ["user"]
    told = list(parts(chat))
    texts = [part for _, part in told if isinstance(part, str)]
    assert "Log in as \ufffd 李\n" in texts[0]  # half a character is none
    places = [texts[0].index(part) for part in ("Log in as", "## Plan", "It was done before.")]
    assert places == sorted(places)
    assert texts[0].endswith("It was done before.\n\n[screenshot left out]")
    assert texts[1:] == [
        turns[0].decision.text,
        turns[1].decision.text,
        "The screen did not change.",
        turns[2].decision.text,
        "Your plan:\n1. [x] open\n2. [ ] log in",
    ]
    pictures = [part for _, part in told if not isinstance(part, str)]
    assert len(pictures) == 3
    for picture, sent in zip(pictures, (turns[1].screenshot, turns[2].screenshot, context.screenshot), strict=True):
        np.testing.assert_array_equal(picture, sent.pixels)
    np.testing.assert_array_equal(told[-1][1], context.screenshot.pixels)


def test_mistakes_are_told_after_the_screenshot():
    long = "x" * 5000
    context = Context("Log in", screenshot(), mistakes=(("I am lost.", "there is no action"), (long, "nor here")))
    with Endpoint(streamed(CLICK)) as endpoint:
        asked(endpoint.url, planning=False).decide(context)
        told = list(parts(endpoint.chats()[0]))
    assert [role for role, _ in told] == ["user", "user", "assistant", "user", "assistant", "user"]
    assert told[2][1] == "I am lost."
    assert told[3][1] == "This reply was not understood: there is no action"
    assert told[4][1] == "x" * 2000 + " [and 3,000 more]"


@pytest.mark.parametrize("images", [1, 2, 3, None])
def test_the_last_screenshots_are_sent(images):
    turns = tuple(turn(number) for number in range(1, 5))
    with Endpoint(streamed(CLICK)) as endpoint:
        asked(endpoint.url, images=images).decide(Context("Log in", screenshot(), turns))
        told = list(parts(endpoint.chats()[0]))
    pictures = [part for _, part in told if not isinstance(part, str)]
    kept = [*(earlier.screenshot for earlier in turns), screenshot()][-(images or 5) :]
    assert len(pictures) == len(kept)
    for picture, sent in zip(pictures, kept, strict=True):
        np.testing.assert_array_equal(picture, sent.pixels)
    assert sum(part.count("[screenshot left out]") for _, part in told if isinstance(part, str)) == 5 - len(kept)
    assert all(any(f"step {number}" in str(part) for _, part in told) for number in range(1, 5))


@pytest.mark.parametrize(
    ("dialect", "size", "sent"),
    [
        (UI_TARS_1_5, (210, 160), (336, 252)),
        (UI_TARS_1_5, (1920, 1080), (1932, 1092)),
        (UI_TARS_1_0, (2560, 1440), (1932, 1064)),  # above 2700 patches
        (JSON_TOOLS, (1920, 1080), (1344, 756)),
    ],
)
def test_pictures_have_the_size_that_the_dialect_counts_in(dialect, size, sent):
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    shown = Screenshot(np.stack([x % 256, y % 256, (x + y) // 2 % 256], axis=-1).astype(np.uint8))
    reply = dialect.format("", (Finished(),), size)
    with Endpoint(streamed(reply)) as endpoint:
        asked(endpoint.url, dialect=dialect).decide(Context("Log in", shown))
        (picture,) = (part for _, part in parts(endpoint.chats()[0]) if not isinstance(part, str))
    assert picture.shape == (sent[1], sent[0], 3)
    theirs = np.array(Image.fromarray(shown.pixels).resize(sent, Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(picture, theirs)


def test_what_a_model_says_of_a_resized_picture_is_a_pixel_of_the_screenshot():
    reply = "Action: click(point='<point>335 251</point>')"
    with Endpoint(streamed(reply)) as endpoint:
        decision = asked(endpoint.url).decide(Context("Log in", screenshot(size=(210, 160))))
    assert decision.actions == (Click((335 * 210 // 336, 251 * 160 // 252)),)


def test_large_pictures_are_sent_smaller():
    noise = screenshot()  # no PNG of it is smaller than the pixels
    with Endpoint(streamed(CLICK)) as endpoint:
        for options in ({}, {"image_format": "jpeg"}, {"max_image_bytes": 300_000}, {"max_image_bytes": 150_000}):
            asked(endpoint.url, **options).decide(Context("Log in", noise))
        urls = [chat[0]["content"][-1] for chat in endpoint.chats()]
        with pytest.raises(InputError, match=r"^max_image_bytes: expected at least [\d,]+ for 560 x 420 pixels, got 9"):
            asked(endpoint.url, max_image_bytes=9).decide(Context("Log in", noise))
        assert len(endpoint.requests) == len(urls)
    assert [seen(url)[1] for url in urls] == ["PNG", "JPEG", "JPEG", "JPEG"]
    assert all(seen(url)[0].shape == noise.pixels.shape for url in urls)
    sizes = [len(base64.b64decode(url["image_url"]["url"].partition(",")[2])) for url in urls]
    assert sizes[0] > 300_000 >= sizes[2] > 150_000 >= sizes[3]


# Servers that want another form ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("complaint", "most"),
    [
        ("At most 1 image(s) may be provided in one request.", 1),  # vLLM
        ("At most 3 image(s) may be provided in one prompt.", 3),
        ("You set image=2 (or defaulted to 1) in `--limit-mm-per-prompt`, but found 5 items in the same prompt.", 2),
        ("You set or defaulted to '{\"image\": 1}' in `--limit-mm-per-prompt`, but passed 5 image items.", 1),
        ("Too many images in request. Max is 4.", 4),
        ("The request contains too many images: 5 images were provided, but the model supports a maximum of 2.", 2),
        ("This model only supports one image.", 1),
        ("This model does not support multiple images.", 1),
        ("Only a single image is allowed per request", 1),
    ],
)
def test_a_server_that_takes_fewer_images_is_believed(complaint, most):
    turns = tuple(turn(number) for number in range(1, 5))
    with Endpoint(refused(400, complaint), streamed(CLICK)) as endpoint:
        model = asked(endpoint.url)
        assert model.decide(Context("Log in", screenshot(), turns)) == DECISION
        assert model.decide(Context("Log in", screenshot(), turns)) == DECISION
        sent = [sum(not isinstance(part, str) for _, part in parts(chat)) for chat in endpoint.chats()]
    assert sent == [5, most, most]  # and it is remembered
    assert model.images == most


def test_a_server_that_takes_fewer_and_fewer_images():
    few = (refused(400, "At most 3 images may be provided"), refused(400, "At most 1 image may be provided"))
    with Endpoint(*few, streamed(CLICK)) as endpoint:
        asked(endpoint.url).decide(Context("Log in", screenshot(), tuple(map(turn, range(1, 5)))))
        assert len(endpoint.requests) == 3


def test_a_server_that_calls_the_limit_of_tokens_otherwise():
    complaint = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    with Endpoint(refused(400, complaint), streamed(CLICK)) as endpoint:
        model = asked(endpoint.url, max_tokens=50)
        assert model.decide(Context("Log in", screenshot())) == model.decide(Context("Log in", screenshot()))
        bodies = [json.loads(request.body) for request in endpoint.requests]
    assert [body.get("max_tokens") for body in bodies] == [50, None, None]
    assert [body.get("max_completion_tokens") for body in bodies] == [None, 50, 50]


# What makes no sense --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "images: expected at least 1, got 0"),
        ({"max_tokens": 0}, "max_tokens: expected at least 1, got 0"),
        ({"max_image_bytes": -1}, "max_image_bytes: expected at least 1, got -1"),
        ({"connect_s": 0.0}, "connect_s: expected more than 0, got 0"),
        ({"first_token_s": -1.0}, "first_token_s: expected more than 0, got -1"),
        ({"total_s": float("nan")}, "total_s: expected more than 0, got nan"),
        ({"api_key": ""}, "api_key: expected printable ASCII letters"),
        ({"api_key": "sk-\n"}, "api_key: expected printable ASCII letters"),
        ({"api_key": "sk-é"}, "api_key: expected printable ASCII letters"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(InputError, match=f"^{message}"):
        asked("http://127.0.0.1:8000/v1", **options)


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8000", "ftp://127.0.0.1/v1", "http://", "http://[::1/v1", "http://a:b:c/v1", "http://h:99999"],
)
def test_an_address_that_is_none(url):
    with pytest.raises(InputError, match="^base_url: expected an address such as http://127.0.0.1:8000/v1, got"):
        asked(url)


@pytest.mark.parametrize("address", ["ftp://me:sesame-street@host/v1", "http://me:sesame-street@host:port/v1"])
def test_an_address_that_is_none_keeps_its_password(address):
    with pytest.raises(InputError) as caught:
        asked(address)
    assert "sesame" not in str(caught.value)
