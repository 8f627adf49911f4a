"""A local Hugging Face Hub of one dataset, with only the requests of the real client."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves the repository and accepts commits.

    Attributes:
        files: content of the repository, by path.
        blobs: uploaded large files, by SHA-256.
        created: the bodies of the requests that created repositories.
        refuses: answer every request with 403.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.refuses = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving() -> Iterator[Hub]:
    """Yield a hub that serves until the block ends."""
    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            hub.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._resolve()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if "/resolve/" in path:
            self._resolve()
        elif self.server.refuses:
            self._answer({"error": "You are not welcome"}, 403)
        elif "/tree/" in path:
            self._answer(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": _sha1(content)}
                    for name, content in sorted(self.server.files.items())
                ]
            )
        elif path.startswith("/api/datasets/"):
            siblings = [{"rfilename": name} for name in sorted(self.server.files)]
            self._answer({"id": "someone/origami", "sha": COMMIT, "siblings": siblings})
        else:
            self._answer({"error": f"No {path} here"}, 404)

    def do_PUT(self) -> None:
        content = self._body()
        self.server.blobs[hashlib.sha256(content).hexdigest()] = content
        self._answer({})

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self._body()
        if self.server.refuses:
            self._answer({"error": "You are not welcome"}, 403)
        elif path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self._answer({"url": f"{self.server.url}/datasets/someone/origami"})
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            modes = [
                {"path": file["path"], "uploadMode": _mode(file["path"]), "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._answer({"files": modes})
        elif path.endswith("/objects/batch"):
            objects = [
                wanted | {"actions": {"upload": {"href": f"{self.server.url}/blob"}}}
                for wanted in json.loads(body)["objects"]
            ]
            self._answer({"transfer": "basic", "objects": objects})
        elif "/commit/" in path:
            for line in body.splitlines():
                self._apply(**json.loads(line))
            url = f"{self.server.url}/datasets/someone/origami/commit/{COMMIT}"
            self._answer({"success": True, "commitUrl": url, "commitOid": COMMIT})
        else:
            self._answer({"error": f"No {path} here"}, 404)

    def _apply(self, key: str, value: dict[str, Any]) -> None:
        files = self.server.files
        if key == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            files[value["path"]] = self.server.blobs[value["oid"]]
        elif key == "deletedFile":
            del files[value["path"]]

    def _resolve(self) -> None:
        _, _, place = unquote(urlsplit(self.path).path).partition("/resolve/")
        content = self.server.files.get(place.partition("/")[2])
        if content is None:
            self._answer({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        self._send(content, 200, {"ETag": f'"{_sha1(content)}"', "X-Repo-Commit": COMMIT})

    def _answer(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(body).encode(), status, headers or {})

    def _send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def log_message(self, *_: object) -> None: ...


def _mode(path: str) -> str:
    return "lfs" if path.endswith(".mp4") else "regular"


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
