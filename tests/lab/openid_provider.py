"""An OpenID provider with real signatures, which can be told to send wrong answers."""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID, CLIENT_SECRET = "adit-client", "a secret of the client"


@dataclass
class OpenIdPeer:
    """The person who signs in, and what is wrong with the answers."""

    url: str = ""
    person: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    """Replace those of the ID token; None removes one."""
    userinfo: dict[str, Any] = field(default_factory=dict)
    configuration: dict[str, Any] = field(default_factory=dict)
    signs_with_another_key: bool = False
    is_down: bool = False
    redirects_keys_to: str = ""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "userinfo_endpoint": f"{self.url}/userinfo",
            **self.configuration,
        }

    def grant_code(self, request: dict[str, str]) -> str:
        code = secrets.token_urlsafe()
        self.codes[code] = request
        return f"{request['redirect_uri']}?{urlencode({'code': code, 'state': request['state']})}"

    def exchange_code(self, form: dict[str, str]) -> dict[str, Any] | None:
        request = self.codes.pop(form.get("code", ""), None)
        if request is None:
            return None
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        expected = (CLIENT_ID, CLIENT_SECRET, request["redirect_uri"], request["code_challenge"])
        sent = (form["client_id"], form["client_secret"], form["redirect_uri"], challenge)
        if sent != expected:
            return None
        return {"access_token": "access", "token_type": "Bearer", "id_token": self._sign(request)}

    def _sign(self, request: dict[str, str]) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": request["nonce"],
            **self.person,
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        key = RSAKey.generate_key(2048, {"kid": "one"}) if self.signs_with_another_key else self.key
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, key)


@contextmanager
def openid_provider() -> Iterator[OpenIdPeer]:
    peer = OpenIdPeer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            peer.paths.append(parts.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if peer.is_down:
                self.answer(503, {})
            elif parts.path == "/.well-known/openid-configuration":
                self.answer(200, peer.describe())
            elif parts.path == "/authorize":
                self.redirect(peer.grant_code(query))
            elif parts.path == "/keys" and peer.redirects_keys_to:
                self.redirect(peer.redirects_keys_to)
            elif parts.path == "/keys":
                self.answer(200, {"keys": [peer.key.as_dict(private=False)]})
            elif parts.path == "/userinfo":
                self.answer(200, {"sub": peer.person["sub"], **peer.userinfo})
            else:
                self.answer(404, {})

        def do_POST(self) -> None:
            peer.paths.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            answer = peer.exchange_code(form)
            self.answer(200, answer) if answer else self.answer(400, {"error": "invalid_grant"})

        def redirect(self, address: str) -> None:
            self.send_response(302)
            self.send_header("Location", address)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def answer(self, status: int, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        peer.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield peer
        finally:
            server.shutdown()
            thread.join()
