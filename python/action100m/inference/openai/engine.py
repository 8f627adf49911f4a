"""The engine that sends requests to servers."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_random_exponential,
)

from action100m.config import OpenAIConfig
from action100m.inference.engine import (
    EngineStoppedError,
    Message,
    Outcome,
    Request,
    Result,
    Sampling,
    Text,
    Usage,
    capacity_of,
)
from action100m.inference.loop import Loop
from action100m.inference.openai.credentials import read_key
from action100m.inference.openai.messages import (
    AbortedAnswerError,
    BrokenAnswerError,
    body_of,
    result_of,
)
from action100m.inference.openai.servers import Server, Servers
from action100m.inference.openai.tokens import load_tokenizer
from action100m.text import clean

_log = logging.getLogger(__name__)

_PATIENCE = 300.0  # seconds with all servers down until the engine stops
_CONNECT_SECONDS = 10.0
_LONGEST_WAIT = 60.0
_UNREADABLE = 2  # unreadable answers to one request, each of which may have cost money
_WORDS = 300  # characters of a server's message that are passed on
_NEW_LIMIT = b"max_completion_tokens"  # in the error of servers that refuse "max_tokens"
_PASSING = (408, 409, 425)  # timeout, conflict, too early
_HOPELESS = {
    401: "does not accept the key (key_variable or key_file)",
    402: "has no credit left for this key",
    403: "does not allow requests with this key",
    404: "does not have the model or chat completions (model, urls)",
}
_HARMLESS = Request("", (Message("user", (Text("Say yes."),)),), Sampling(max_tokens=16))


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
        every = config.concurrency * len(config.urls)
        self.capacity = capacity_of(every)
        self._config, self._key, self._tokenizer = config, key, tokenizer
        self._loop, self._patience = loop, patience
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(config.timeout_seconds, connect=_CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=every, max_keepalive_connections=every),
            trust_env=False,
        )
        self._servers = Servers(config.urls, config.concurrency, patience)
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
            if response.status_code in (401, 402, 403):
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
                    return await self._ask(request, body, attempts - 1)
        except (_PassingError, _RefusedError) as error:
            busy = stop.busy_since is not None and not self._servers.answered_since(stop.busy_since)
            if busy:
                self._stopped = EngineStoppedError(str(error))
                raise self._stopped from error
            usage, lasting = Usage(retries=attempts - 1), isinstance(error, _RefusedError)
            return Result(request.id, Outcome.FAILED, "", str(error), usage, lasting)
        except EngineStoppedError as error:
            self._stopped = error
            raise
        raise AssertionError("tenacity returns or raises")

    async def _ask(self, request: Request, body: bytes, retries: int) -> Result:
        """Return the first answer of a server that can be reached."""
        while True:
            async with self._servers.lend(request.group) as server:
                renamed = server.renames_limit
                response = await self._send(server, _renamed(body) if renamed else body)
                if response is None:
                    continue
                if not renamed and response.status_code == 400 and _NEW_LIMIT in response.content:
                    server.renames_limit = True
                    continue
                answer = _json_in(response)
                await self._judge(server, _status_of(response, answer), response)
                try:
                    return result_of(request, answer, retries)
                except AbortedAnswerError as error:
                    raise _PassingError(str(error)) from None
                except BrokenAnswerError as error:
                    raise _UnreadableError(f"{error}: {self._words(response)}") from None

    async def _send(self, server: Server, body: bytes) -> httpx.Response | None:
        """Return a server's response; None if it cannot be reached."""
        headers = {"Content-Type": "application/json"}
        try:
            asked = self._client.post(
                f"{server.url}/chat/completions", content=body, headers=headers
            )
            # httpx only limits how long nothing arrives: a server may send spaces forever.
            return await asyncio.wait_for(asked, self._config.timeout_seconds)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            server.failed()  # not the request's fault: does not count as an attempt
            return None
        except (httpx.TimeoutException, asyncio.TimeoutError):
            server.failed()
            seconds = f"{self._config.timeout_seconds:g} s (timeout_seconds)"
            raise _PassingError(f"{server.url} did not answer within {seconds}.") from None
        except httpx.HTTPError as error:
            server.failed()
            reason = f"The connection to {server.url} failed ({type(error).__name__})."
            raise _PassingError(reason) from None

    async def _judge(self, server: Server, status: int, response: httpx.Response) -> None:
        """Raise an error if the response is not an answer."""
        if status == 429 or status >= 500 or status in _PASSING:
            reason = f"{server.url} answered {status}: {self._words(response)}"
            asked = _retry_after(response)
            if status == 429:
                server.busy(asked)
                raise _BusyError(reason, asked)
            if status >= 500:
                server.failed()
            raise _PassingError(reason, asked)
        hopeless = status in _HOPELESS or 300 <= status < 400
        if hopeless and not (status == 403 and await self._allows_key(server)):
            what = _HOPELESS.get(status, "redirects to another address (urls)")
            raise EngineStoppedError(f"{server.url} {what}: {self._words(response)}")
        self._servers.succeeded(server)  # it is up, even if it refuses the request
        if status >= 400:
            raise _RefusedError(f"{server.url} refused the request: {self._words(response)}")

    async def _allows_key(self, server: Server) -> bool:
        """Return whether a server that forbade a request, as filters do, allows a harmless one."""
        response = await self._send(server, _encode(_HARMLESS, self._config.model))
        if response is None:
            raise _PassingError(f"{server.url} can no longer be reached.")
        return _status_of(response, _json_in(response)) != 403

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


class _UnreadableError(_PassingError):
    """The server answered, and may have charged for it, but not with a chat completion."""


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
        self._left, self._patience, self._unreadable = attempts, patience, 0

    def __call__(self, state: RetryCallState) -> bool:
        if isinstance(_error_of(state), _BusyError):
            now = time.monotonic()
            self.busy_since = now if self.busy_since is None else self.busy_since
            return now - self.busy_since > self._patience
        self.busy_since = None
        self._left -= 1
        self._unreadable += isinstance(_error_of(state), _UnreadableError)
        return self._left <= 0 or self._unreadable >= _UNREADABLE


def _wait(state: RetryCallState) -> float:
    """Return the wait that the server asked for, up to a minute, plus a growing random wait."""
    return (getattr(_error_of(state), "wait", None) or 0.0) + float(_backoff(state))


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that the server asks to wait, at most a minute; None if it does not."""
    value = response.headers.get("Retry-After", "")
    try:
        seconds = parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):  # not a date
        try:
            seconds = float(value)
        except ValueError:
            return None
    return min(max(0.0, seconds), _LONGEST_WAIT)


def _encode(request: Request, model: str) -> bytes:
    return json.dumps(body_of(request, model)).encode()


def _renamed(body: bytes) -> bytes:
    """Return a request with the newer name of its token limit, which no string in it can hold."""
    return body.replace(b'"max_tokens":', b'"%s":' % _NEW_LIMIT, 1)


def _json_in(response: httpx.Response) -> Any:
    """Return the value; None if it is not JSON."""
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def _status_of(response: httpx.Response, answer: Any) -> int:
    """Return the status, or the code of an error that is sent as a success, as OpenRouter does."""
    status: int = response.status_code
    if status == 200 and isinstance(answer, dict) and not answer.get("choices"):
        error = answer.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        if isinstance(code, int) and 400 <= code < 600:
            return code
    return status
