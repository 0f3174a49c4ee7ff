"""Frames of real files and of a real RTSP connection; what a file's content may not lead to; passwords untold."""

import logging
import os
import socket
import threading
from contextlib import closing
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.face.clips import encode, grey, rtsp, write
from visavis.errors import InputError, VideoError
from visavis.face.stream.sources import Source
from visavis.face.stream.video import frames

QUICK = (0.01,)


def numbers(found):
    """Which of the `grey` frames these are, by their bottom right pixel."""
    return [round((float(frame.pixels[-1, -1].mean()) - 20) / 8) for frame in found]


def read(path, **options):
    return list(frames(Source.parse(str(path)), **options))


# Sources


@pytest.mark.parametrize(
    ("text", "kind", "shown", "location"),
    [
        ("clip.mp4", "file", "clip.mp4", "clip.mp4"),
        ("./concat:a.mp4", "file", "./concat:a.mp4", "./concat:a.mp4"),
        ("C:\\clip.mp4", "file", "C:\\clip.mp4", "C:\\clip.mp4"),
        ("file:///a%20b.mp4", "file", "/a b.mp4", "/a b.mp4"),
        ("0", "camera", "camera:/dev/video0", "/dev/video0"),
        ("camera:2", "camera", "camera:/dev/video2", "/dev/video2"),
        ("/dev/video1", "camera", "camera:/dev/video1", "/dev/video1"),
        ("camera:/dev/v4l/by-id/x", "camera", "camera:/dev/v4l/by-id/x", "/dev/v4l/by-id/x"),
        ("RTSP://h/x", "rtsp", "rtsp://h/x", "RTSP://h/x"),
        ("rtsps://a:b@[::1]:5/x?t=1", "rtsp", "rtsps://[::1]:5/x", "rtsps://a:b@[::1]:5/x?t=1"),
        ("rtsp://h/user=admin&password=x.sdp", "rtsp", "rtsp://h/...", "rtsp://h/user=admin&password=x.sdp"),
    ],
)
def test_a_source_is_what_its_text_says(text, kind, shown, location):
    source = Source.parse(text)
    assert (source.kind, source.shown, source.location) == (kind, shown, location)
    assert source.live == (kind != "file")


@pytest.mark.parametrize(
    "text",
    [
        "http://h/x",
        "https://h/x",
        "concat:a|b",
        "tcp://h:1",
        "udp://h:1",
        "pipe:0",
        "data:x",
        "file://h/x",
        "file:x",
        "crypto:a",
        "camera:x",
        "camera:/etc/passwd",
        "camera:/dev/v4l/by-id/../../sda",
        "rtsp:///x",
        "rtsp://h:port/x",
        "lavfi:x",
        "gopher://h/",
    ],
)
def test_no_other_scheme_is_opened(text):
    with pytest.raises(InputError, match="source: expected"):
        Source.parse(text)


@pytest.mark.parametrize("text", ["", "a\0b", "rtsp://a b/", "rtsp://h/\n"])
def test_text_that_is_no_source(text):
    with pytest.raises(InputError, match="source: expected"):
        Source.parse(text)


@given(st.text("abc:/@?#[]&= ", max_size=12), st.text("s3cr#t", min_size=4).map(lambda text: f"PASS{text}"))
def test_a_password_is_in_no_text(rest, password):
    for url in (
        f"rtsp://me:{password}@host/{rest}",
        f"rtsp://host/x?key={password}",
        f"rtsp://host/p={password}{rest}",
    ):
        try:
            source = Source.parse(url)
            told = f"{source} {source!r}"
        except InputError as error:
            told = str(error)
        assert "PASS" not in told


# Files


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_every_frame_of_a_file_in_its_order(tmp_path, container):
    found = read(write(tmp_path / f"clip.{container}", map(grey, range(12))))
    assert numbers(found) == list(range(12))
    assert np.allclose([frame.time_s for frame in found], np.arange(12) / 25, atol=2e-3)
    assert [frame.number for frame in found] == list(range(12))


@pytest.mark.parametrize(("width", "height"), [(63, 47), (1, 1), (16, 301)])
def test_odd_sizes(tmp_path, width, height):
    found = read(write(tmp_path / "clip.mp4", (grey(n, width=width, height=height) for n in range(3))))
    assert [frame.pixels.shape for frame in found] == [(height, width, 3)] * 3
    assert found[0].pixels.dtype == np.uint8
    assert found[0].pixels.flags.c_contiguous


def test_colours_are_red_green_blue(tmp_path):
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[..., 0], pixels[..., 2] = 230, 60
    [frame] = read(write(tmp_path / "clip.mp4", [pixels]))
    assert np.abs(frame.pixels.reshape(-1, 3).mean(0) - [230, 0, 60]).max() < 4


def test_a_variable_frame_rate_keeps_its_times(tmp_path):
    times = [0.0, 0.04, 0.5, 0.52, 1.7]
    found = read(write(tmp_path / "clip.mkv", map(grey, range(5)), times_s=times))
    assert np.allclose([frame.time_s for frame in found], times, atol=2e-3)


@given(st.floats(0.5, 60))
def test_a_rate_is_kept_to(tmp_path_factory, fps):
    path = tmp_path_factory.getbasetemp() / "rate.mkv"
    if not path.exists():
        write(path, map(grey, range(29)))
    times = [frame.time_s for frame in read(path, fps=fps)]
    most = 1 + int(times[-1] * fps + 0.5)
    assert len(times) <= most
    assert len(times) >= min(29, int(0.9 * 28 / 25 * min(fps, 25)))
    assert fps < 25 or len(times) == 29


def rotated(data, quarter_turns):
    """An MP4 whose track header asks players to turn it clockwise."""
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarter_turns]
    numbers = [cosine, sine, 0, -sine, cosine, 0, 0, 0, 16384]
    matrix = b"".join((value * 65536).to_bytes(4, "big", signed=True) for value in numbers)
    start = data.index(bytes.fromhex("00010000") + b"\0" * 12, data.index(b"tkhd"))
    return data[:start] + matrix + data[start + 36 :]


@pytest.mark.parametrize("quarter_turns", range(4))
def test_a_turned_video_comes_upright(tmp_path, quarter_turns):
    (tmp_path / "clip.mp4").write_bytes(rotated(encode([grey(1)]), quarter_turns))
    [frame] = read(tmp_path / "clip.mp4")
    assert np.abs(frame.pixels.astype(int) - np.rot90(grey(1), -quarter_turns)).max() < 4


@pytest.mark.parametrize(("ratio", "width"), [(Fraction(3, 2), 96), (Fraction(1, 2), 32), (Fraction(60_000, 1), 64)])
def test_pixels_that_are_not_square_are_made_so_within_reason(tmp_path, ratio, width):
    (tmp_path / "clip.mp4").write_bytes(encode([grey(1)], ratio=ratio))
    [frame] = read(tmp_path / "clip.mp4")
    assert frame.pixels.shape == (48, width, 3)


def test_frames_of_too_many_pixels_are_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "clip.mkv", [grey(1)])
    monkeypatch.setattr("visavis.face.stream.video.MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(VideoError, match="expected at most 3071 pixels, got 64 x 48"):
        read(path)


@pytest.mark.parametrize("container", ["mkv", "ts"])
def test_a_file_that_ends_in_the_middle_gives_what_is_there(tmp_path, container):
    data = encode(map(grey, range(25)), container=container)
    (tmp_path / "clip").write_bytes(data[: len(data) * 6 // 10])
    found = numbers(read(tmp_path / "clip"))
    assert 5 < len(found) < 25
    assert found == list(range(len(found)))


def test_damage_in_the_middle_is_passed_over(tmp_path):
    data = bytearray(encode(map(grey, range(25)), container="ts"))
    middle = len(data) // 2 // 188 * 188
    data[middle : middle + 188 * 3] = os.urandom(188 * 3)
    (tmp_path / "clip.ts").write_bytes(data)
    found = read(tmp_path / "clip.ts")
    assert len(found) > 12
    assert np.all(np.diff([frame.time_s for frame in found]) > 0)


def test_texts_that_are_none_are_no_matter_and_an_unknown_coding_is_told(tmp_path):
    data = encode(map(grey, range(3)))
    (tmp_path / "clip.mp4").write_bytes(data.replace(b"Lavf", b"\xf2\xffvf"))
    assert numbers(read(tmp_path / "clip.mp4")) == [0, 1, 2]
    (tmp_path / "clip.mp4").write_bytes(data.replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoError, match="clip.mp4: expected a video in a known coding, got another"):
        read(tmp_path / "clip.mp4")


CLIPS = {container: encode(map(grey, range(5)), container=container) for container in ("mp4", "mkv", "avi", "ts")}


@settings(max_examples=40)
@given(st.sampled_from(sorted(CLIPS)), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=20))
def test_any_damage_gives_frames_or_the_error_of_a_video(tmp_path_factory, container, changes):
    data = bytearray(CLIPS[container])
    for place, value in changes:
        data[int(place * len(data))] = value
    path = tmp_path_factory.getbasetemp() / f"damaged.{container}"
    path.write_bytes(data)
    try:
        times = [frame.time_s for frame in read(path)]
    except VideoError:
        return
    assert times[0] == 0
    assert np.all(np.diff(times) > 0)


SILENT = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 33\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no video",
        os.urandom(5000),
        b"RIFF\0\0\0\0AVI LIST",
        b"\0\0\0\x20ftypisom",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:PORT/x.ts\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile 'http://127.0.0.1:PORT/x.ts'\n",
        SILENT.encode(),  # a session description would make ffmpeg listen
    ],
    ids=["empty", "text", "noise", "half", "head", "playlist", "concat", "sdp"],
)
def test_other_content_is_refused_and_leads_nowhere(tmp_path, content):
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        path = tmp_path / "clip.m3u8"
        path.write_bytes(content.replace(b"PORT", str(trap.getsockname()[1]).encode()))
        with pytest.raises(VideoError, match=r"clip.m3u8: expected a video"):
            read(path)
        with pytest.raises(BlockingIOError):
            trap.accept()


def test_no_frame_at_all_and_no_file_at_all(tmp_path):
    (tmp_path / "clip.mkv").write_bytes(encode([grey(0)], container="mkv")[:600])
    with pytest.raises(VideoError, match="expected a video"):
        read(tmp_path / "clip.mkv")
    with pytest.raises(VideoError, match="expected a video file, got nothing"):
        read(tmp_path / "none.mp4")
    with pytest.raises(VideoError, match="expected a video file, got no file"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(VideoError, match="expected a video file, got no file"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize("fps", [0, -1, float("nan")])
def test_a_rate_of_nothing_is_refused(fps):
    with pytest.raises(InputError, match="fps: expected a rate above 0"):
        frames(Source.parse("clip.mp4"), fps=fps)


# RTSP

LIVE = encode(map(grey, range(25)), container="ts")


def test_rtsp_comes_live_and_comes_back_after_it_was_lost():
    lost = []
    with rtsp(LIVE, pause_s=0.001) as server:
        with closing(frames(Source.parse(server.url), backoff_s=QUICK, on_lost=lost.append)) as found:
            seen = []
            while server.plays < 4:
                seen.append(next(found))
        assert np.all(np.diff([frame.time_s for frame in seen]) > 0)
        assert np.all(np.diff([frame.number for frame in seen]) > 0)
        assert seen[0].pixels.shape == (48, 64, 3)
        assert len(lost) >= 3


def test_of_late_frames_the_newest_wins():
    with rtsp(LIVE, pause_s=0.001) as server:
        later = threading.Event()
        with closing(frames(Source.parse(server.url), backoff_s=QUICK, on_lost=lambda _: later.set())) as found:
            first = next(found)
            assert later.wait(60)  # all of this connection has come meanwhile
            second = next(found)
        assert first.number < second.number >= 23


def test_a_login_is_sent_and_never_told(caplog):
    caplog.set_level(logging.DEBUG)
    with rtsp(LIVE, login="ada:s3cret") as server:
        lost = []
        with closing(frames(Source.parse(server.url), backoff_s=QUICK, on_lost=lost.append)) as found:
            while server.plays < 2:
                next(found)
        wrong = server.url.replace("s3cret", "wr0ng")
        with pytest.raises(VideoError, match="Unauthorized|401|authorization") as refused:
            next(frames(Source.parse(wrong)))
    assert caplog.text
    for text in (caplog.text, str(lost), str(refused.value), str(refused.getrepr(style="native"))):
        assert "s3cret" not in text
        assert "wr0ng" not in text
        assert "ada:" not in text


def test_what_cannot_be_reached_at_first_is_an_error_at_once():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(VideoError, match=rf"rtsp://127.0.0.1:{port}/x: .*refused"):
        next(frames(Source.parse(f"rtsp://a:b@127.0.0.1:{port}/x")))
    with pytest.raises(VideoError, match="camera:/dev/video99: .*No such file"):
        next(frames(Source.parse("camera:99")))


def test_a_silent_source_is_lost_and_can_be_let_go(monkeypatch):
    monkeypatch.setattr("visavis.face.stream.video._READ_S", 0.2)
    lost = threading.Event()
    with (
        rtsp(LIVE, stall=True) as server,
        closing(frames(Source.parse(server.url), backoff_s=QUICK, on_lost=lambda _: lost.set())) as found,
    ):
        next(found)
        assert lost.wait(60)
        while server.plays < 2:
            next(found)


def test_frames_wait_for_their_time_when_live():
    with rtsp(LIVE, pause_s=0.01) as server, closing(frames(Source.parse(server.url), fps=5, backoff_s=QUICK)) as found:
        times = [frame.time_s for frame in islice(found, 4)]
    assert np.diff(times).min() > 0.09  # half of a fifth: the rate holds in the long run
