"""Sign-in by OpenID Connect, with allauth as the client. Used by allauth and the URLs.

Providers come from the settings only; those in allauth's tables are ignored, so that nobody can
make ADIT call other addresses.
"""

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import jwt
import requests
from allauth.account.adapter import get_adapter as get_account_adapter
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialLogin, SocialToken
from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.utils import generate_code_challenge
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_safe

from adit.accounts.external_accounts import ExternalPerson, SignInRefused, sign_in_person
from adit.accounts.refused_page import refuse_sign_in
from adit.accounts.sign_in_settings import OpenIdProvider, is_allowed_address

log = logging.getLogger(__name__)

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
"""Public keys only: "none", and HMAC with a public key as the secret, are refused."""
CLOCK_SKEW_S = 30
_MAX_SUBJECT = 191


class SignInAdapter(DefaultSocialAccountAdapter):
    """allauth's adapter: accounts and groups by our rules, refusals that are recorded."""

    def list_apps(
        self, request: HttpRequest, provider: str | None = None, client_id: str | None = None
    ) -> list[SocialApp]:
        found: dict[str, OpenIdProvider] = settings.OPENID_PROVIDERS
        return [
            SocialApp(
                provider="openid_connect",
                provider_id=one.provider_id,
                name=one.name,
                client_id=one.client_id,
                secret=one.client_secret,
                settings={"server_url": one.issuer.rstrip("/"), "scope": list(one.scopes)},
            )
            for one in found.values()
            if provider in (None, one.provider_id)
        ]

    def get_provider(
        self, request: HttpRequest, provider: str, client_id: str | None = None
    ) -> "Provider":
        return Provider(request, app=self.get_app(request, provider, client_id))

    def get_requests_session(self) -> requests.Session:
        session = super().get_requests_session()
        session.max_redirects = 0
        if settings.OPENID_CA_FILE:
            session.verify = settings.OPENID_CA_FILE
        return session

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Find or create the account, and set its groups."""
        one = settings.OPENID_PROVIDERS[sociallogin.account.provider]
        person = _read_person(one, sociallogin.claims)
        try:
            user = sign_in_person(person, one.group_map, creates=one.creates_accounts)
        except SignInRefused as error:
            raise ImmediateHttpResponse(refuse_sign_in(request, one.provider_id, error)) from None
        sociallogin.user = user

    def on_authentication_error(
        self,
        request: HttpRequest,
        provider: "Provider",
        error: str | None = None,
        exception: Exception | None = None,
        extra_context: Any = None,
    ) -> None:
        if isinstance(exception, IdTokenRefused):
            refused = exception.refusal
        elif isinstance(exception, requests.RequestException):
            log.warning("OpenID provider %s: %s", provider.sub_id, type(exception).__name__)
            refused = SignInRefused("signin.provider-unavailable", provider=provider.name)
        elif exception is None and error == "cancelled":
            refused = SignInRefused("signin.canceled", provider=provider.name)
        elif exception is None and "error" not in request.GET:
            refused = SignInRefused("signin.expired")
        else:
            refused = SignInRefused("signin.provider-refused", provider=provider.name)
        raise ImmediateHttpResponse(refuse_sign_in(request, provider.sub_id, refused))


class IdTokenRefused(OAuth2Error):
    """The answer of the provider is not valid for this sign-in."""

    def __init__(self, code: str, provider: str) -> None:
        super().__init__(code)
        self.refusal = SignInRefused(code, provider=provider)


class Adapter(OpenIDConnectOAuth2Adapter):
    """allauth's client of one provider: the ID token is always checked completely."""

    _nonce = ""
    _config: dict[str, Any] | None = None

    @property
    def issuer(self) -> str:
        issuer: str = settings.OPENID_PROVIDERS[self.provider_id].issuer
        return issuer

    @property
    def openid_config(self) -> dict[str, Any]:
        """Return the provider's configuration; it must be that of the issuer in the settings."""
        if self._config is None:
            config = self._get_json(self.get_provider().server_url)
            if config.get("issuer") != self.issuer:
                raise self.refused("signin.wrong-issuer")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not is_allowed_address(str(config.get(name, ""))):
                    raise self.refused("signin.provider-refused")
            self._config = config
        return self._config

    def parse_token(self, data: dict[str, Any]) -> SocialToken:
        return SocialToken(token=str(data["access_token"]))

    def get_access_token_data(
        self, request: HttpRequest, app: SocialApp, client: Any, pkce_code_verifier: str = ""
    ) -> dict[str, Any]:
        self._nonce = make_nonce(pkce_code_verifier)
        data: dict[str, Any] = super().get_access_token_data(
            request, app, client, pkce_code_verifier
        )
        return data

    def complete_login(
        self, request: HttpRequest, app: SocialApp, token: SocialToken, **kwargs: Any
    ) -> SocialLogin:
        claims = self._check_id_token(app, str(kwargs["response"].get("id_token", "")))
        if is_allowed_address(str(self.openid_config.get("userinfo_endpoint", ""))):
            headers = {"Authorization": f"Bearer {token.token}"}
            more = self._get_json(self.profile_url, headers)
            if more.get("sub") != claims["sub"]:
                raise self.refused("signin.wrong-subject")
            claims = {**more, **claims}
        account = SocialAccount(provider=self.provider_id, uid=claims["sub"])
        login = SocialLogin(provider=self.get_provider(), account=account)
        login.claims = claims
        return login

    def _check_id_token(self, app: SocialApp, text: str) -> dict[str, Any]:
        """Check signature, issuer, audience, times and nonce (OpenID Connect Core 3.1.3.7)."""
        try:
            claims: dict[str, Any] = jwt.decode(
                text,
                key=self._find_key(text),
                algorithms=ALGORITHMS,
                issuer=self.issuer,
                audience=app.client_id,
                leeway=CLOCK_SKEW_S,
                options={"require": ["iss", "sub", "aud", "exp", "iat"]},
            )
        except jwt.InvalidIssuerError:
            raise self.refused("signin.wrong-issuer") from None
        except jwt.InvalidAudienceError:
            raise self.refused("signin.wrong-audience") from None
        except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError):
            raise self.refused("signin.wrong-time") from None
        except (jwt.PyJWTError, ValueError):
            raise self.refused("signin.wrong-signature") from None
        if claims.get("azp", app.client_id) != app.client_id:
            raise self.refused("signin.wrong-audience")
        if not self._nonce or claims.get("nonce") != self._nonce:
            raise self.refused("signin.wrong-nonce")
        if not 0 < len(claims["sub"]) <= _MAX_SUBJECT:
            raise self.refused("signin.wrong-subject")
        return claims

    def _find_key(self, text: str) -> jwt.PyJWK:
        header = jwt.get_unverified_header(text)
        keys = jwt.PyJWKSet.from_dict(self._get_json(self.openid_config["jwks_uri"])).keys
        signing = [key for key in keys if key.public_key_use in (None, "sig")]
        named = [key for key in signing if "kid" in header and key.key_id == header["kid"]]
        if not named and "kid" not in header and len(signing) == 1:
            named = signing
        if not named:
            raise jwt.InvalidKeyError
        return named[0]

    def _get_json(self, url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        with SignInAdapter(self.request).get_requests_session() as session:
            answer = session.get(url, headers=headers)
            answer.raise_for_status()
            value = answer.json()
        if not isinstance(value, dict):
            raise self.refused("signin.provider-refused")
        return value

    def refused(self, code: str) -> IdTokenRefused:
        return IdTokenRefused(code, settings.OPENID_PROVIDERS[self.provider_id].name)


class Provider(OpenIDConnectProvider):
    """allauth's provider with PKCE and a nonce; of the request only `next` has an effect."""

    oauth2_adapter_class = Adapter

    def redirect_from_request(self, request: HttpRequest) -> HttpResponse:
        adapter = Adapter(request, self.app.provider_id)
        try:
            address = adapter.authorize_url
            client = adapter.get_client(request, self.app)
        except (OAuth2Error, requests.RequestException) as error:
            return render_authentication_error(request, self, exception=error)
        challenge = generate_code_challenge()
        verifier = challenge.pop("code_verifier")
        next_url = request.GET.get("next", "")
        client.state = self.stash_redirect_state(
            request,
            AuthProcess.LOGIN,
            next_url if get_account_adapter(request).is_safe_url(next_url) else None,
            pkce_code_verifier=verifier,
        )
        parameters = {**challenge, "nonce": make_nonce(verifier)}
        return redirect(client.get_redirect_url(address, self.get_scope(), parameters))


def make_nonce(code_verifier: str) -> str:
    """Return the nonce that belongs to the code verifier in the session."""
    return hashlib.sha256(f"nonce {code_verifier}".encode()).hexdigest() if code_verifier else ""


@login_not_required
@require_safe
def start(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Send the browser to the sign-in page of the provider."""
    return _get_provider(request, provider_id).redirect_from_request(request)


@login_not_required
@require_safe
def callback(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Sign in the person with whom the browser returns from the provider."""
    _get_provider(request, provider_id)
    view = OAuth2CallbackView.adapter_view(Adapter(request, provider_id))
    response: HttpResponse = view(request)
    return response


def _get_provider(request: HttpRequest, provider_id: str) -> Provider:
    try:
        return SignInAdapter(request).get_provider(request, provider_id)
    except SocialApp.DoesNotExist:
        raise Http404 from None


def _read_person(one: OpenIdProvider, claims: Mapping[str, Any]) -> ExternalPerson:
    def text(name: str) -> str:
        value = claims.get(name)
        return value.strip() if isinstance(value, str) else ""

    return ExternalPerson(
        provider=one.provider_id,
        subject=claims["sub"],
        username=text(one.username_claim),
        first_name=text("given_name"),
        last_name=text("family_name"),
        email=text("email") if claims.get("email_verified", True) is True else "",
        groups=_read_groups(claims, one.groups_claim),
    )


def _read_groups(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """Return the names in a claim, which may be inside others: realm_access.roles."""
    value: Any = claims
    for name in [path] if path in claims else path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    names = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return frozenset(name for name in names if isinstance(name, str))
