"""A real HTTP server on this machine that behaves as badly as a test wants it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "tiny"


class Call:
    """One request to the server."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: Any, number: int) -> None:
        self.body, self.number = body, number
        self.headers = handler.headers
        self._handler = handler

    @property
    def text(self) -> str:
        """The text of the last message."""
        content = self.body["messages"][-1]["content"]
        if isinstance(content, str):
            return content
        return "".join(item.get("text", "") for item in content)

    def reply(self, status: int, text: str, kind: str = "application/json", **headers: str) -> None:
        """Send an answer."""
        data = text.encode()
        self._handler.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            **headers,
        }.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.end_headers()
        self._handler.wfile.write(data)

    def complete(self, text: str | None, **more: Any) -> None:
        """Answer as a model does."""
        message = {"role": "assistant", "content": text, **more.pop("message", {})}
        choice = {"index": 0, "message": message, "finish_reason": "stop", **more}
        usage = {
            "prompt_tokens": 7,
            "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 4},
        }
        self.reply(200, json.dumps({"choices": [choice], "usage": usage}))

    def drop(self) -> None:
        """Close the connection in the middle of an answer."""
        self._handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{"choi')
        self._handler.close_connection = True

    def trickle(self) -> None:
        """Send a space from time to time, as proxies do, but never an answer."""
        self._handler.send_response(200)
        self._handler.send_header("Transfer-Encoding", "chunked")
        self._handler.end_headers()
        for _ in range(200):
            self._handler.wfile.write(b"1\r\n \r\n")
            time.sleep(0.1)
        self._handler.close_connection = True

    def hang(self) -> None:
        """Send nothing until the client disconnects."""
        self._handler.connection.settimeout(20)
        with suppress(OSError):
            self._handler.connection.recv(1)
        self._handler.close_connection = True


@contextmanager
def serve(
    answer: Callable[[Call], None],
    models: list[str] | None = None,
    context: int | str | None = None,
) -> Iterator[tuple[str, list[Call]]]:
    """Run a server; yield its URL and the calls that it has received.

    Args:
        answer: called with each request, to answer it.
        models: names of its models.
        context: context length that it reports for each.
    """
    calls: list[Call] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            data = [{"id": name, "max_model_len": context} for name in (models or [MODEL])]
            Call(self, None, -1).reply(200, json.dumps({"data": data}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                call = Call(self, body, len(calls))
                calls.append(call)
            try:
                answer(call)
            except OSError:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", calls
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
