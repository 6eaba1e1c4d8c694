"""Django settings; the only module that reads the environment."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import dj_database_url
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from environs import Env

from adit.accounts.sign_in_settings import read_directory, read_openid_providers
from adit.config import logging_config

env = Env()

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent
PACKAGE_DIR = PROJECT_DIR / "adit"


def read_setting(name: str, default: str = "") -> str:
    """Return the value of NAME, or the content of the file that NAME_FILE points to."""
    file = env.str(f"{name}_FILE", "")
    return Path(file).read_text().strip() if file else env.str(name, default)


DATA_DIR = Path(env.str("ADIT_DATA", str(PROJECT_DIR / "var"))).resolve()
KEY_FILE = Path(env.str("ADIT_KEY_FILE", str(DATA_DIR / "keys" / "master.key")))
SECRET_KEY_FILE = Path(env.str("ADIT_SECRET_KEY_FILE", str(DATA_DIR / "keys" / "web.key")))
PORT = env.int("PORT", 8000)
DEBUG = False

WEB_HOST = env.str("ADIT_WEB_HOST", "127.0.0.1")
# This machine, too, checks whether the pages are available.
ALLOWED_HOSTS = [*env.list("ADIT_HOSTS", []), "localhost", "127.0.0.1", "[::1]"]
CSRF_TRUSTED_ORIGINS: list[str] = env.list("ADIT_ORIGINS", [])
BEHIND_TLS = env.bool("ADIT_TLS", False)
if BEHIND_TLS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# Number of trusted proxies before the pages: sign-ins are throttled by client address.
ALLAUTH_TRUSTED_PROXY_COUNT = env.int("ADIT_PROXIES", 0)


def _read_secret_key() -> str:
    """Return the key that signs sessions and forms; `adit` creates it on its first start."""
    return SECRET_KEY_FILE.read_text().strip() if SECRET_KEY_FILE.exists() else ""


SECRET_KEY = (
    _read_secret_key() or "no key yet: signs nothing before the first start of a data folder"
)

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "adit.vault",
    "adit.audit",
    "adit.accounts",  # before allauth, whose templates it replaces
    "adit.retention",
    "adit.notifications",
    "adit.nodes",
    "adit.projects",
    "adit.blocklist",
    "adit.consent",
    "adit.webhooks",
    "adit.jobs",
    "adit.orders",
    "adit.results",
    "adit.recall",
    "adit.review",
    "adit.api_tokens",
    "adit.api",
    "adit.dicomweb",
    "adit.administration",
    "adit.monitoring",
    "adit.pages",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.mfa",
    "django_tables2",
    "django_filters",
    "rest_framework",
    "csp",
]

MIDDLEWARE = [
    "adit.api.middleware.api_middleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "adit.accounts.middleware.no_store_middleware",
    "adit.accounts.middleware.activity_middleware",
    "adit.accounts.middleware.kept_form_middleware",
    "adit.accounts.middleware.known_browser_middleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "adit.accounts.middleware.second_factor_middleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "adit.pages.middleware.wrong_method_middleware",
]

ROOT_URLCONF = "adit.config.urls"
WSGI_APPLICATION = "adit.config.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# Databases ----------------------------------------------------------------------------------

DATABASE_URL = read_setting("DATABASE_URL", f"sqlite:///{DATA_DIR / 'adit.sqlite3'}")
DATABASES = {"default": dj_database_url.parse(DATABASE_URL)}
EMBEDDED = DATABASES["default"]["ENGINE"].endswith("sqlite3")
if EMBEDDED:
    # Deferred transactions that turn into writers fail at once with "database is locked".
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
            "PRAGMA temp_store=MEMORY; PRAGMA cache_size=-16000;"
        ),
    }
else:
    DATABASES["default"]["CONN_MAX_AGE"] = 60
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    # A machine that vanished, or a frozen process that holds a lock, must not block others for
    # long.
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        {
            "connect_timeout": 5,
            "prepare_threshold": 2,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            "options": "-c lock_timeout=20s -c idle_in_transaction_session_timeout=30s",
        }
    )

REDIS_URL = read_setting("ADIT_REDIS_URL")
"""Shared by all processes: answers of nodes, counts of sign-ins; "": in the database."""
if REDIS_URL:
    CACHES = {
        "default": {
            "BACKEND": "adit.config.redis_cache.RedisCache",
            "LOCATION": REDIS_URL,
            "KEY_PREFIX": "adit",
        }
    }
else:
    CACHES = {
        "default": {
            "BACKEND": "adit.config.database_cache.DatabaseCache",
            "LOCATION": "adit_cache",
            "KEY_PREFIX": "adit",
        }
    }

# Jobs ---------------------------------------------------------------------------------------

BROKER_URL = read_setting("ADIT_BROKER_URL", "filesystem://")
BROKER_DIR = DATA_DIR / "broker"
WORKERS = env.int("ADIT_WORKERS", 2)
LEASE_S = env.int("ADIT_LEASE_S", 60)
BEAT_S = env.int("ADIT_BEAT_S", 10)
SWEEP_S = env.int("ADIT_SWEEP_S", 15)
RETRY_PAUSES_S = env.list("ADIT_RETRY_PAUSES_S", [60, 300, 900], subcast=int)
STALL_S = env.int("ADIT_STALL_S", 1200)
"""A task without progress for this time is released; longer than any wait of the engine."""
PAUSE_GRACE_S = env.int("ADIT_PAUSE_GRACE_S", 300)
"""How long a series may continue after a pause of its PACS; a stop waits for nothing."""
MAX_FAILURES = env.int("ADIT_MAX_FAILURES", 4)
ECHO_S = env.int("ADIT_ECHO_S", 300)
ECHO_IN_USE_S = env.int("ADIT_ECHO_IN_USE_S", 30)
BREAKER_FAILURES = env.int("ADIT_BREAKER_FAILURES", 3)
"""Number of failures of a node in a row before anyone is notified."""
BREAKER_PAUSES_S = env.list("ADIT_BREAKER_PAUSES_S", [15, 60, 120, 300, 600], subcast=int)
"""Pauses for a node that does not answer, after the first failure, the second and so on."""
BACKUP_DAYS = env.int("ADIT_BACKUP_DAYS", 0)  # how long backups are kept; 0: unknown
ORDERS_WITHOUT_PROJECT = env.bool("ADIT_ORDERS_WITHOUT_PROJECT", False)
"""Allow pseudonymized orders without a research project: all of them share one key."""
PSEUDONYM_SOURCE = env.str(
    "ADIT_PSEUDONYM_SOURCE", ""
)  # see projects/trust_centre.py; "": projects' own
AUDIT_SEGMENTS_DIR = Path(env.str("ADIT_AUDIT_SEGMENTS", str(DATA_DIR / "audit-segments")))
"""Files of old events of the audit trail; several machines must share it."""
ARCHIVE_DIR = Path(env.str("ADIT_ARCHIVES", str(DATA_DIR / "archives")))
"""Where finished 7-Zip files are stored, unless the destination has a folder of its own."""
GATHERED_DIR = Path(env.str("ADIT_GATHERED", str(DATA_DIR / "gathered")))
"""Where their images are staged, unencrypted; workers on several machines must share it."""
ARCHIVE_DAYS = env.int("ADIT_ARCHIVE_DAYS", 14)  # after which they are deleted
DOWNLOADS = env.int("ADIT_DOWNLOADS", 3)  # at once, each of which uses a thread of the web process
MAX_STUDIES_PER_JOB = env.int("ADIT_MAX_STUDIES_PER_JOB", 10)
MAX_TRANSFER_ROWS = env.int("ADIT_MAX_TRANSFER_ROWS", 500)
MAX_QUERY_ROWS = env.int("ADIT_MAX_QUERY_ROWS", 1000)
SEARCH_DEADLINE_S = env.int("ADIT_SEARCH_DEADLINE_S", 30)
SEARCH_LIMIT = env.int("ADIT_SEARCH_LIMIT", 500)
SEARCH_KEPT_S = env.int("ADIT_SEARCH_KEPT_S", 60)
"""The same query is not sent to a PACS again within this time; 0: always sent."""
SEARCH_THREADS = env.int("ADIT_SEARCH_THREADS", 4)  # of the web process: half of its threads
URGENT_LIMIT = env.int("ADIT_URGENT_LIMIT", 1)
DICOMWEB_PORT = env.int("ADIT_DICOMWEB_PORT", 0)
"""Of the process `adit dicomweb`; 0: only the web process answers DICOMweb requests."""
DICOMWEB_THREADS = env.int("ADIT_DICOMWEB_THREADS", 32)  # requests at once in this process
DICOMWEB_REQUESTS = env.int("ADIT_DICOMWEB_REQUESTS", 4)
"""DICOMweb requests at once in the web process: half of its threads."""
DICOMWEB_SLOT_WAIT_S = env.int("ADIT_DICOMWEB_SLOT_WAIT_S", 20)
"""How long a request waits for a free connection of a node."""
DICOMWEB_WRITE_S = env.int("ADIT_DICOMWEB_WRITE_S", 60)
"""A client that takes nothing of an answer for this time is cut off."""
VIEWING_CACHE_MB = env.int("ADIT_VIEWING_CACHE_MB", 4096)
"""Of the series that viewers look at, in encrypted temporary files; per process."""
VIEWING_CACHE_MINUTES = env.int("ADIT_VIEWING_CACHE_MINUTES", 60)
VIEWING_SERIES_PER_USER = env.int("ADIT_VIEWING_SERIES_PER_USER", 2)  # fetched at once
API_ORIGINS: list[str] = env.list("ADIT_API_ORIGINS", [])
"""Origins of pages on other servers that may use the API, such as https://viewer.example.org."""
CALLING_AE_TITLE = env.str("ADIT_AE_TITLE", "ADIT")

# Receiver -----------------------------------------------------------------------------------

RECEIVER_PORT = env.int("ADIT_RECEIVER_PORT", 11112)  # 0: no C-MOVE to us
RECEIVER_HOST = env.str("ADIT_RECEIVER_HOST", "0.0.0.0")  # noqa: S104 - PACS call from elsewhere
RECEIVER_TLS_CERTIFICATE = env.str("ADIT_RECEIVER_TLS_CERTIFICATE", "")  # a PEM file; "": no TLS
RECEIVER_TLS_KEY = env.str("ADIT_RECEIVER_TLS_KEY", "")  # "": it is in the certificate's file
RECEIVER_TLS_CLIENT_CA = env.str("ADIT_RECEIVER_TLS_CLIENT_CA", "")
"""CA of the certificates that callers must present; "": they need none."""
RECEIVER_ADDRESS = env.str("ADIT_RECEIVER_ADDRESS", "")
"""Name or address under which PACS reach the receiver; "": as this machine sees itself."""
RECEIVER_QUARANTINE_MB = env.int("ADIT_RECEIVER_QUARANTINE_MB", 0)
RECEIVER_MARK_MB = env.int("ADIT_RECEIVER_MARK_MB", 512)
"""While more waits for one retrieval, the PACS waits up to 20 s for each response."""
SAMPLES_DIR = DATA_DIR / "demo" / "samples"
SPOOL_DIR = Path(env.str("ADIT_SPOOL", str(DATA_DIR / "spool")))
FOLDER_INDEX_DIR = DATA_DIR / "folder-index"
"""Encrypted header values of the images in source folders; built again when they are missing."""
SPOOL_RESERVE_MB = env.int("ADIT_SPOOL_RESERVE_MB", 1024)
"""Disk space that stays free: below it, images are refused for now."""
RECEPTION_LIVES_S = env.int("ADIT_RECEPTION_LIVES_S", 900)
"""How long the images of a worker that ended suddenly remain its own.

Until then another transfer of the same study waits, if the PACS does not name the C-MOVE to which
an image belongs.
"""
# Receiver and workers on one machine use one spool; on several, images go through the broker.
HAND_OVER = env.str("ADIT_HAND_OVER", "broker" if BROKER_URL.startswith("amqp") else "spool")
HAND_OVER_URL = BROKER_URL if HAND_OVER == "broker" else ""

# Accounts -----------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
LOCAL_SIGN_IN = env.bool("ADIT_LOCAL_SIGN_IN", True)
EMERGENCY_ACCOUNTS: list[str] = env.list("ADIT_EMERGENCY_ACCOUNTS", [])
"""User names that may sign in by their local password in any case."""
SELF_REGISTRATION = env.bool("ADIT_SELF_REGISTRATION", False)
"""Whether people without an account may ask for one on the sign-in page."""
if SELF_REGISTRATION and not LOCAL_SIGN_IN:
    raise ImproperlyConfigured(
        "ADIT_SELF_REGISTRATION needs ADIT_LOCAL_SIGN_IN, because requested accounts have passwords"
    )
OPENID_PROVIDERS = read_openid_providers(read_setting)
OPENID_CA_FILE = env.str("ADIT_OIDC_CA_FILE", "")  # "": the CAs that `certifi` lists
SOCIALACCOUNT_ADAPTER = "adit.accounts.openid_connect.SignInAdapter"
LDAP = read_directory(read_setting)
AUTHENTICATION_BACKENDS = ["adit.accounts.backends.LocalBackend"]
if LDAP is not None:
    AUTHENTICATION_BACKENDS.append("adit.accounts.ldap.DirectoryBackend")
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "adit.accounts.password_validators.MaximumLengthValidator"},
    {"NAME": "adit.accounts.password_validators.CommonPartValidator"},
    {"NAME": "adit.accounts.password_validators.PredictabilityValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_RATE_LIMITS = {"reset_password": "20/h/ip,3/h/key", "signup": "10/h/ip"}
ACCOUNT_ADAPTER = "adit.accounts.adapter.AccountAdapter"
MFA_ADAPTER = "adit.accounts.second_factor.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_FORMS = {
    "add_webauthn": "adit.accounts.security_keys.AddKeyForm",
    "edit_webauthn": "adit.accounts.security_keys.RenameKeyForm",
    "authenticate_webauthn": "adit.accounts.security_keys.AuthenticateKeyForm",
    "reauthenticate_webauthn": "adit.accounts.security_keys.ReauthenticateKeyForm",
}

# Web ----------------------------------------------------------------------------------------

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [PACKAGE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
# Uploaded lists name patients: they stay in memory, and larger ones are dropped unread.
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.MemoryFileUploadHandler"]
FILE_UPLOAD_MAX_MEMORY_SIZE = 6_000_000

WHITENOISE_MAX_AGE = 3600
REQUEST_BODY_S = env.float("ADIT_REQUEST_BODY_S", 30)
"""A request whose body stops arriving for this time is cut."""

SESSION_ENGINE = "adit.accounts.sessions"
SESSION_IDLE_S = env.int("ADIT_SESSION_IDLE_S", 28800)
"""After this time without activity a session ends; at the latest after SESSION_COOKIE_AGE."""
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = BEHIND_TLS
CSRF_COOKIE_SECURE = BEHIND_TLS
CSRF_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "adit.pages.views.csrf_failure"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_SSL_REDIRECT = False
SECURE_HSTS_SECONDS = 31536000 if BEHIND_TLS else 0
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "object-src": [NONE],
    }
}
DJANGO_TABLES2_TEMPLATE = "components/table.html"

# Interface for programs ------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["adit.api.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["adit.api.parsers.JsonParser"],
    "DEFAULT_THROTTLE_CLASSES": ["adit.api.throttling.TokenThrottle"],
    "EXCEPTION_HANDLER": "adit.api.problems.handle_error",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "COERCE_DECIMAL_TO_STRING": False,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
API_REQUESTS = env.int("ADIT_API_REQUESTS", 600)
"""Requests per minute of one token."""
WEBHOOK_NETWORKS: list[IPv4Network | IPv6Network] = env.list(
    "ADIT_WEBHOOK_NETWORKS", [], subcast=ip_network
)
"""Networks such as 10.1.0.0/16 in which webhooks may be, also by http; others: public, by https."""
WEBHOOK_CA_FILE = env.str("ADIT_WEBHOOK_CA_FILE", "")  # "": the CAs of the system
SPECTACULAR_SETTINGS = {
    "TITLE": "ADIT",
    "DESCRIPTION": "Transfers DICOM images, pseudonymized or as they are.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
}

# Language and time --------------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English")]
LOCALE_PATHS = [PACKAGE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = env.str("ADIT_TIME_ZONE", "Europe/Berlin")

# Mail ---------------------------------------------------------------------------------------

EMAIL_HOST = read_setting("ADIT_MAIL_HOST")
MAIL = bool(EMAIL_HOST)
"""Whether mails are sent: only if a mail server is configured."""
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if MAIL else 'dummy'}.EmailBackend"
EMAIL_PORT = int(read_setting("ADIT_MAIL_PORT", "25"))
EMAIL_HOST_USER = read_setting("ADIT_MAIL_USER")
EMAIL_HOST_PASSWORD = read_setting("ADIT_MAIL_PASSWORD")
EMAIL_USE_TLS = read_setting("ADIT_MAIL_TLS") == "starttls"
EMAIL_USE_SSL = read_setting("ADIT_MAIL_TLS") == "tls"
EMAIL_TIMEOUT = 5
DEFAULT_FROM_EMAIL = read_setting("ADIT_MAIL_FROM", "adit@localhost")
MAIL_ADMINS = [address for address in read_setting("ADIT_MAIL_ADMINS").split(",") if address]
"""Recipients of alarms; if empty: administrators."""
TRAIL_MAIL = [address for address in read_setting("ADIT_TRAIL_MAIL").split(",") if address]
"""Recipients of the daily head of the audit trail."""
SITE_URL = read_setting("ADIT_URL", f"http://localhost:{PORT}").rstrip("/")
"""URL of the pages for users, as written in mails."""

# Monitoring -----------------------------------------------------------------------------------

METRICS_TOKEN = read_setting("ADIT_METRICS_TOKEN")
"""Requests with `Authorization: Bearer …` may read the metrics; others from this host only."""

# Logs: module names and messages, never arguments of a request --------------------------------

LOG_FORM = env.str("ADIT_LOG", "lines" if EMBEDDED else "json")
LOGGING = logging_config.make_logging_config(LOG_FORM)
