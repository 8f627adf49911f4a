"""The engine that sends requests to servers."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_random_exponential,
)

from action100m.config import OpenAIConfig
from action100m.inference.engine import EngineStoppedError, Outcome, Request, Result, Usage
from action100m.inference.loop import Loop
from action100m.inference.openai.credentials import read_key
from action100m.inference.openai.messages import BrokenAnswerError, body_of, result_of
from action100m.inference.openai.servers import Server, Servers
from action100m.inference.openai.tokens import load_tokenizer
from action100m.text import clean

_log = logging.getLogger(__name__)

_PATIENCE = 300.0  # seconds with all servers down until the engine stops
_CONNECT_SECONDS = 10.0
_LONGEST_WAIT = 60.0
_WORDS = 300  # characters of a server's message that are passed on
_HOPELESS = {
    401: "does not accept the key (key_variable or key_file)",
    403: "does not allow requests with this key",
    404: "does not have the model or chat completions (model, urls)",
}


@contextmanager
def open_openai(config: OpenAIConfig, patience: float = _PATIENCE) -> Iterator[OpenAIEngine]:
    """Check which servers are up, then send them requests during the block.

    Args:
        config: addresses of the servers, and their model.
        patience: seconds with all servers down until the engine stops.

    Raises:
        ValueError: the key or the tokenizer is not available, or a server does not accept the key
            or has another model.
        EngineStoppedError: no server is up.
    """
    key = read_key(config)
    tokenizer = load_tokenizer(config) if config.tokenizer else None
    with Loop("openai") as loop:
        engine = OpenAIEngine(config, key, tokenizer, loop, patience)
        try:
            loop.start(engine.connect()).result()
            yield engine
        finally:
            loop.cancel()
            loop.start(engine.disconnect()).result()


class OpenAIEngine:
    """An `Engine` whose model runs on servers."""

    def __init__(
        self, config: OpenAIConfig, key: str, tokenizer: Any, loop: Loop, patience: float
    ) -> None:
        self.context_length = config.context_length
        self.capacity = -(-5 * config.concurrency * len(config.urls) // 4)
        self._config, self._key, self._tokenizer = config, key, tokenizer
        self._loop, self._patience = loop, patience
        self._stopped: EngineStoppedError | None = None

    def submit(self, request: Request) -> Future[Result]:
        return self._loop.start(self._answer(request))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if self._tokenizer is None:
            raise ValueError(f"Counting tokens for {self._config.model} needs its tokenizer.")
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [len(text.ids) for text in encoded]

    async def connect(self) -> None:
        """Ask every server which models it has."""
        config = self._config
        every = config.concurrency * len(config.urls)
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(config.timeout_seconds, connect=_CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=every, max_keepalive_connections=every),
            trust_env=False,
        )
        self._servers = Servers(config.urls, config.concurrency, self._patience)
        problems = await asyncio.gather(*map(self._look, self._servers.all))
        message = " ".join(filter(None, problems))
        if all(problems):
            raise EngineStoppedError(f"No server is available: {message}")
        if message:
            _log.warning("%s The other servers are used.", message)

    async def disconnect(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _look(self, server: Server) -> str:
        """Return what is wrong with a server; "" if nothing is."""
        try:
            asked = self._client.get(f"{server.url}/models")
            response = await asyncio.wait_for(asked, _CONNECT_SECONDS)
            models = {model["id"]: model for model in response.json()["data"]}
        except httpx.InvalidURL as error:
            raise ValueError(f"{server.url} is not a valid address: {error}.") from error
        except (httpx.HTTPError, asyncio.TimeoutError) as error:
            return f"{server.url} does not answer ({type(error).__name__})."
        except (ValueError, KeyError, TypeError, RecursionError):
            if response.status_code in (401, 403):
                raise ValueError(f"{server.url} {_HOPELESS[response.status_code]}.") from None
            return ""  # it does not list models; a request will tell
        model = models.get(self._config.model)
        if model is None:
            names = clean(", ".join(map(str, models)), _WORDS)
            raise ValueError(f"{server.url} has no model {self._config.model}; it has: {names}.")
        if self._config.context_length is None:  # the smallest of all servers
            reported = model.get("max_model_len")
            known = [n for n in (self.context_length, reported) if isinstance(n, int) and n > 0]
            self.context_length = min(known, default=None)
        return ""

    async def _answer(self, request: Request) -> Result:
        if self._stopped is not None:
            raise self._stopped
        body = await asyncio.to_thread(_encode, request, self._config.model)
        stop = _Stop(self._config.attempts, self._patience)
        retrying = AsyncRetrying(
            stop=stop,
            wait=_wait,
            retry=retry_if_exception_type(_PassingError),
            reraise=True,
        )
        attempts = 0
        try:
            async for attempt in retrying:
                with attempt:
                    attempts += 1
                    answer = await self._post(body, request.group)
                    return _read(request, answer, attempts - 1)
        except (_PassingError, _RefusedError) as error:
            if stop.busy_since is not None and not self._servers.answered_since(stop.busy_since):
                self._stopped = EngineStoppedError(str(error))
                raise self._stopped from error
            usage, lasting = Usage(retries=attempts - 1), isinstance(error, _RefusedError)
            return Result(request.id, Outcome.FAILED, "", str(error), usage, lasting)
        except EngineStoppedError as error:
            self._stopped = error
            raise
        raise AssertionError("tenacity returns or raises")

    async def _post(self, body: bytes, group: str) -> httpx.Response:
        """Return the first answer of a server that can be reached."""
        headers = {"Content-Type": "application/json"}
        while True:
            async with self._servers.lend(group) as server:
                url = f"{server.url}/chat/completions"
                try:
                    asked = self._client.post(url, content=body, headers=headers)
                    # httpx only limits how long nothing arrives: a server may send spaces forever.
                    response = await asyncio.wait_for(asked, self._config.timeout_seconds)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    server.failed()  # not the request's fault: does not count as an attempt
                    continue
                except (httpx.TimeoutException, asyncio.TimeoutError):
                    server.failed()
                    seconds = f"{self._config.timeout_seconds:g} s (timeout_seconds)"
                    reason = f"{server.url} did not answer within {seconds}."
                    raise _PassingError(reason) from None
                except httpx.HTTPError as error:
                    server.failed()
                    reason = f"The connection to {server.url} failed ({type(error).__name__})."
                    raise _PassingError(reason) from None
                self._judge(server, response)
                return response

    def _judge(self, server: Server, response: httpx.Response) -> None:
        """Raise an error if the response is not an answer."""
        status = response.status_code
        if status in _HOPELESS or 300 <= status < 400:
            what = _HOPELESS.get(status, "redirects to another address (urls)")
            raise EngineStoppedError(f"{server.url} {what}: {self._words(response)}")
        if status == 429 or status >= 500:
            reason = f"{server.url} answered {status}: {self._words(response)}"
            asked = _retry_after(response)
            if status == 429:
                server.busy(asked)
                raise _BusyError(reason, asked)
            server.failed()
            raise _PassingError(reason, asked)
        self._servers.succeeded(server)  # it is up, even if it refuses the request
        if status >= 400:
            raise _RefusedError(f"{server.url} refused the request: {self._words(response)}")

    def _words(self, response: httpx.Response) -> str:
        """Return the server's message, cleaned and without the key, which it may repeat."""
        text = response.text
        try:
            error = json.loads(text)["error"]
            text = str((error["message"] if isinstance(error, dict) else error) or "")
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        if self._key:
            text = text.replace(self._key, "[key]")
        return clean(text, _WORDS) or "no reason given."


class _PassingError(Exception):
    """An error that another attempt may not meet."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _BusyError(_PassingError):
    """The server has no room at the moment."""


class _RefusedError(Exception):
    """The server refused the request, and would refuse it again."""


_backoff = wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT)


class _Stop:
    """Decides when to give up a request: after failed attempts, or a time without room.

    Attributes:
        busy_since: time since when there is no room; None if the last error was another one.
    """

    def __init__(self, attempts: int, patience: float) -> None:
        self.busy_since: float | None = None
        self._left, self._patience = attempts, patience

    def __call__(self, state: RetryCallState) -> bool:
        if isinstance(_error_of(state), _BusyError):
            now = time.monotonic()
            self.busy_since = now if self.busy_since is None else self.busy_since
            return now - self.busy_since > self._patience
        self.busy_since = None
        self._left -= 1
        return self._left <= 0


def _wait(state: RetryCallState) -> float:
    """Return the wait that the server asked for, up to a minute, plus a growing random wait."""
    return (getattr(_error_of(state), "wait", None) or 0.0) + float(_backoff(state))


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return min(max(0.0, float(response.headers["Retry-After"])), _LONGEST_WAIT)
    except (KeyError, ValueError):
        return None


def _encode(request: Request, model: str) -> bytes:
    return json.dumps(body_of(request, model)).encode()


def _read(request: Request, response: httpx.Response, retries: int) -> Result:
    try:
        return result_of(request, response.json(), retries)
    except BrokenAnswerError as error:
        raise _PassingError(str(error)) from None
    except (ValueError, RecursionError):  # not JSON
        kind = response.headers.get("Content-Type", "nothing known")
        reason = f"The server's answer cannot be read as JSON ({clean(kind, 50)})."
        raise _PassingError(reason) from None
