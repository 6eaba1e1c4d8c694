"""HTTP requests with token, retries and typed errors. Used by all other modules."""

import ipaddress
import random
import ssl
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from adit_sdk.errors import (
    IN_PROGRESS,
    ApiError,
    IncompleteAnswer,
    ServiceUnavailable,
    make_error,
)

RETRY_STATUSES = frozenset({409, 429, 503})
"""With a Retry-After, ADIT has done nothing yet. 409: the same order is just being executed."""
MAX_RETRY_WAIT_S = 120.0
MAX_PROGRESS_WAIT_S = 660.0
"""After ten minutes ADIT lets a request continue that was cut off."""
PROGRESS_INTERVAL_S = 5.0


class TokenAuth(httpx.Auth):
    """Adds the token to requests; keeps it out of every representation."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Token {self._token}"
        yield request


class Connection:
    """Requests to one ADIT. Redirects are not followed: the token must not go elsewhere."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float,
        retries: int,
        verify: bool | str | ssl.SSLContext,
        allow_http: bool,
        sleep: Callable[[float], None],
    ) -> None:
        self.url = check_url(url, allow_http=allow_http)
        token = token.strip()
        if not token or not token.isascii() or not token.isprintable():
            raise ValueError("The token is empty or has characters that no token has.")
        if isinstance(verify, str):
            verify = ssl.create_default_context(cafile=verify)
        self._http = httpx.Client(auth=TokenAuth(token), timeout=timeout, verify=verify)
        self._retries = retries
        self._sleep = sleep

    def close(self) -> None:
        self._http.close()

    def request(
        self,
        method: str,
        address: str,
        *,
        is_safe: bool | None = None,
        may_retry: bool = True,
        accepted: Collection[int] = (304,),
        make_body: Callable[[], dict[str, Any]] = dict,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Return the answer. Raises ApiError.

        `is_safe`: may be repeated if the connection breaks before the answer; by default a GET.
        `may_retry` is false if the body can be read only once. `make_body` is called for each
        attempt. `accepted` are statuses that are no errors, besides those below 300.
        """
        with self.stream(
            method,
            address,
            is_safe=is_safe,
            may_retry=may_retry,
            accepted=accepted,
            make_body=make_body,
            headers=headers,
            params=params,
        ) as response:
            try:
                response.read()
            except httpx.TransportError:
                raise _cut() from None
            return response

    @contextmanager
    def stream(
        self,
        method: str,
        address: str,
        *,
        is_safe: bool | None = None,
        may_retry: bool = True,
        accepted: Collection[int] = (304,),
        make_body: Callable[[], dict[str, Any]] = dict,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Iterator[httpx.Response]:
        """Open an answer whose body is not read yet. Raises as `request` does."""
        safe = method == "GET" if is_safe is None else is_safe
        retries = self._retries if may_retry else 0
        attempt, waited = 0, 0.0
        while True:
            is_last = attempt >= retries
            request = self._http.build_request(
                method, address, headers=headers, params=params, **make_body()
            )
            try:
                response = self._http.send(request, stream=True)
            except httpx.TransportError as error:
                not_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if is_last or not (safe or not_sent):
                    raise _no_answer(error) from None
                self._sleep(_back_off(attempt))
                attempt += 1
                continue
            try:
                if response.is_success or response.status_code in accepted:
                    yield response
                    return
                problem, wait = _read_problem(response), _read_retry_after(response)
            finally:
                response.close()
            if response.status_code not in RETRY_STATUSES or wait is None:
                raise problem
            if problem.code == IN_PROGRESS and retries:
                wait = max(wait, PROGRESS_INTERVAL_S)
                waited += wait
                is_last = waited > MAX_PROGRESS_WAIT_S
            else:
                attempt += 1
            if is_last or wait > MAX_RETRY_WAIT_S:
                raise problem
            self._sleep(wait)

    def iter_bytes(self, response: httpx.Response) -> Generator[bytes, None, None]:
        """Yield the body. Raises IncompleteAnswer if the connection breaks."""
        try:
            yield from response.iter_bytes()
        except httpx.TransportError:
            raise _cut() from None

    def get_json(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        return self.request("GET", f"{self.url}{path}", params=params).json()

    def list_all(self, path: str, filters: Mapping[str, str] | None = None) -> Iterator[Any]:
        """Yield the entries of all pages of a list."""
        params = {"limit": "200", **(filters or {})}
        while True:
            page = self.get_json(path, params)
            yield from page["results"]
            if page["next"] is None:
                return
            # Only the cursor: behind a proxy the server may know itself by another address.
            params["cursor"] = httpx.URL(page["next"]).params["cursor"]


def check_url(url: str, *, allow_http: bool) -> str:
    """Return the URL without a slash at the end. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ValueError("The URL must be like https://adit.example.org")
    if parts.scheme == "http" and not (allow_http or _is_this_machine(parts.hostname)):
        raise ValueError(
            "http:// would send the token unencrypted. Use https://, or allow_http=True in a "
            "network that you trust."
        )
    return url.rstrip("/")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_problem(response: httpx.Response) -> ApiError:
    if response.is_redirect:
        text = f"ADIT answered with a redirect (status {response.status_code}). Check the URL."
        return ApiError(text, "sdk.redirect", status=response.status_code)
    try:
        response.read()
    except httpx.TransportError:
        return _cut()
    return make_error(response)


def _cut() -> IncompleteAnswer:
    return IncompleteAnswer("The connection was cut in the middle of the answer.", "sdk.cut")


def _no_answer(error: httpx.TransportError) -> ServiceUnavailable:
    if isinstance(error, httpx.TimeoutException):
        return ServiceUnavailable("ADIT did not answer in time.", "sdk.timeout")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        text = "The certificate of ADIT is not trusted. Pass verify='ca.pem' with its authority."
        return ServiceUnavailable(text, "sdk.certificate")
    return ServiceUnavailable("ADIT cannot be reached.", "sdk.no-connection")


def _read_retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None


def _back_off(attempt: int) -> float:
    return float(min(30.0, 0.5 * 2**attempt) * random.uniform(0.8, 1.2))  # noqa: S311
