"""A Milvus server for tests, in a network namespace of its own, for it would listen on every interface.

This file is run twice: imported by the tests, and as a program inside the namespace, where it starts the server and
relays to it what comes in through a socket of the tests' namespace. It ends, with the server, when its standard input
ends, and so also when the tests are killed.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 120
QUICK = {  # reads that see all writes wait for a tick; what is deleted is collected at once
    "proxy.timeTickInterval": 20,
    "dataCoord.gc.interval": 5,
    "dataCoord.gc.dropTolerance": 10,  # less, and the server falls over segments that two compactions know
    "dataCoord.compaction.enableAutoCompaction": "false",
}


def why_not() -> str | None:
    """Why no server can run here."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("unshare") is None:
        return "needs Linux, root and unshare"
    try:
        import milvus  # noqa: F401
        import pymilvus  # noqa: F401
    except ImportError as error:
        return f"needs {error.name}"
    return None


@contextmanager
def running(folder: Path, **settings: object) -> Iterator[int]:
    """The port of a server on 127.0.0.1 that keeps its data in `folder`."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        subprocess.Popen(
            ["unshare", "-n", sys.executable, __file__, str(listening.fileno()), str(folder)]
            + [f"{key}={value}" for key, value in {**QUICK, **settings}.items()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"Milvus did not start; see {folder}/logs")
            yield listening.getsockname()[1]
        finally:
            os.killpg(process.pid, signal.SIGKILL)


# Inside the namespace


def _main(listening: socket.socket, folder: str, settings: list[str]) -> None:
    import milvus

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up = struct.pack("16sh", b"lo", 1)  # IFF_UP
        fcntl.ioctl(any_socket, 0x8914, up)  # SIOCSIFFLAGS
    config = milvus.MilvusServerConfig(data_dir=folder)
    for setting in settings:
        key, _, value = setting.partition("=")
        config.set(key, value)
    server = milvus.MilvusServer(config, wait_for_started=False)
    server.start()
    server.wait_started(START_S * 1000)
    print("ready", flush=True)
    asyncio.run(_relay(listening, server.listen_port))


async def _relay(listening: socket.socket, port: int) -> None:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(2**18):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))

    await asyncio.start_server(connect, sock=listening)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    _main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3:])
