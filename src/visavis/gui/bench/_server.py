"""A folder of pages on a port of this machine."""

import http.server
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Server"]


class Server:
    """Serves a folder, and other pages by their paths, until it is closed."""

    def __init__(self, folder: Path, others: Mapping[str, Path] | None = None) -> None:
        class Handler(_Handler):
            pages = others or {}

            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, directory=str(folder))

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {".html": "text/html; charset=utf-8"}

    pages: Mapping[str, Path]

    def do_GET(self) -> None:
        if self.path not in self.pages:
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        page = self.pages[self.path].read_bytes()
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)
        return None

    def send_head(self) -> Any:
        """Refuse what a link leads out of the folder to; the parent class sees to `..`."""
        try:
            inside = Path(self.translate_path(self.path)).resolve().is_relative_to(Path(self.directory).resolve())
        except ValueError:  # a name that no file can have
            inside = False
        return super().send_head() if inside else self.send_error(http.HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "max-age=86400")
        super().end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""
