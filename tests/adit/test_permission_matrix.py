"""Every route for every role, with objects of the own and of another project.

The table states what each role gets; a route without a line fails. The roles belong to LUNG, except
"other", who coordinates HEART.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest
from django.contrib.auth.models import Group
from django.contrib.messages import ERROR, get_messages
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone
from lab import samples
from lab.jobs import PATIENT, put_study
from lab.projects import create_complete_project
from lab.routes import all_patterns
from lab.undone import undone

from adit.accounts import permissions as standard
from adit.accounts.models import User, UserSession
from adit.administration.models import AccountRequest
from adit.api_tokens import tokens
from adit.api_tokens.tokens import Scope
from adit.blocklist.blocking import block_patient
from adit.consent.changes import Consent, save_consent
from adit.jobs.models import ArchiveFile, DeviceDecision, Job, JobState, WithheldImages
from adit.nodes.access import get_domain
from adit.nodes.models import Node, NodeAccess
from adit.notifications.models import Notification, NotificationKind
from adit.notifications.services import notify
from adit.orders import drafts
from adit.projects import pseudonyms
from adit.projects.approval_documents import store_document
from adit.projects.models import Patient, Project
from adit.recall.models import Recall
from adit.recall.recalls import start_recall
from adit.webhooks.models import WebhookEvent
from adit.webhooks.services import create_webhook
from adit_engine.messages import Message

pytestmark = pytest.mark.django_db

ROLES = ("member", "coord", "other", "pacs", "dpo", "review", "reid", "admin")
OK, REFUSED, NO, HIDDEN, ELSEWHERE, SIGN_IN = "+", "m", "-", ".", "/", "s"
BY_STATUS = {401: SIGN_IN, 403: NO, 404: HIDDEN}
API = "api/v1/"
"""Requests to these addresses are made with a token of the person that has all scopes."""
JOBS = (JobState.PENDING, JobState.SUCCESS, JobState.WAITING_FOR_OWNER, JobState.FAILURE)
"""Of the jobs of each project: selective, batch query, batch transfer, 7-Zip."""
VALUES = {
    "jobs/<int:pk>/actions|name": "cancel",
    "jobs/<int:pk>/tasks/<int:position>/actions|name": "stop",
    "history|kind": "project",
    "provider_id": "none",
    "nodes/<int:pk>/do|verb": "close",
    "jobs/<int:pk>/do|verb": "cancel",
    "jobs/<int:pk>/password|verb": "retry",
    "verb": "stop",
    "key": drafts.new_key(),
    "form": "csv",
    "kind": "dimse",
    "slug": "jobs",
    "position": 1,
    "slot": 1,
    "name": "a.xlsx",
    "study": f"{samples.ROOT}.1",
    "series": f"{samples.ROOT}.1.1",
    "instance": f"{samples.ROOT}.1.1.1",
    "frames": "1",
    "address": "PACS1/qidors/patients",
    "tag": "00080060",
}
INPUT = {
    "jobs/withheld/<int:pk>/": {"do": "leave", "reason": "not needed"},
    "jobs/withheld/<int:pk>/picture.png": {"look": "1"},
    "profiles/<int:pk>/pixels/": {"do": "put", "text": "x"},
}
"""Parameters without which a permitted request would be answered like a refused one."""
PSEUDONYMIZED = {"trial_protocol_id": "LUNG"}
"""The same for all retrievals of images."""

PUBLIC = {
    "accounts/login/",
    "accounts/inactive/",
    "accounts/password/link/",
    "accounts/password/forgotten/",
    "accounts/request/",
    "accounts/oidc/<str:provider_id>/",
    "accounts/oidc/<str:provider_id>/callback/",
    "setup/",
    "healthz",
    "readyz",
    "metrics",
    "api/v1/schema",
    "api/v1/docs",
    "help/",
    "help/<slug:slug>",
}
"""Routes that need no sign-in."""

# Methods that are not in the table are not possible for anyone.
# +  the page, or the action
# m  a redirect with an error message, or an error 400, 409 or 422: not possible for this person, or
#    in this state
# -  403
# .  404
# s  the sign-in page, or 401
# Two signs: with an object of LUNG, and with one of HEART. Persons and tokens of LUNG are those of
# "coord", the ones of HEART those of "other".
TABLE = """
                                             member coord other pacs dpo review reid admin

# own account
(home)                                  GET  +      +     +     +    +   +      +    +
home/live                               GET  +      +     +     +    +   +      +    +
samples/<str:name>                      GET  +      +     +     +    +   +      +    +
accounts/password/change/               BOTH +      +     +     +    +   +      +    +
accounts/logout/                        GET  +      +     +     +    +   +      +    +
accounts/logout/                        POST s      s     s     s    s   s      s    s
accounts/profile/                       BOTH +      +     +     +    +   +      +    +
accounts/sessions/                      GET  +      +     +     +    +   +      +    +
accounts/sessions/<int:pk>/end/         POST .      +.    .+    .    .   .      .    .
accounts/sessions/end-others/           POST +      +     +     +    +   +      +    +
accounts/reauthenticate/                BOTH +      +     +     +    +   +      +    +
accounts/second-factor/                 GET  +      +     +     +    +   +      +    +
accounts/second-factor/authenticate/    GET  /      /     /     /    /   /      /    /
accounts/second-factor/authenticate/    POST +      +     +     +    +   +      +    +
accounts/second-factor/reauthenticate/  BOTH +      +     +     +    +   +      +    +
accounts/second-factor/app/             BOTH +      +     +     +    +   +      +    +
accounts/second-factor/app/remove/      BOTH .      .     .     .    .   .      .    .
accounts/second-factor/keys/add/        BOTH +      +     +     +    +   +      +    +
accounts/second-factor/keys/<int:pk>/rename/ BOTH +      +     +     +    +   +      +    +
accounts/second-factor/keys/<int:pk>/remove/ BOTH +      +     +     +    +   +      +    +
accounts/second-factor/keys/reauthenticate/ BOTH +      +     +     +    +   +      +    +
accounts/second-factor/codes/           GET  .      .     .     .    .   .      .    .
accounts/second-factor/codes/new/       BOTH +      +     +     +    +   +      +    +
notifications/                          GET  +      +     +     +    +   +      +    +
notifications/read/                     POST +      +     +     +    +   +      +    +
notifications/mails/                    BOTH +      +     +     +    +   +      +    +
notifications/<int:pk>/read/            POST .      +.    .+    .    .   .      .    .
accounts/theme/                         POST +      +     +     +    +   +      +    +
accounts/tokens/                        GET  +      +     +     +    +   +      +    +
accounts/tokens/new/                    BOTH +      +     +     +    +   +      +    +
accounts/tokens/<int:pk>/revoke/        POST .      +.    .+    .    .   .      .    +
accounts/webhooks/                      GET  +      +     +     +    +   +      +    +
accounts/webhooks/new/                  BOTH +      +     +     +    +   +      +    +
accounts/webhooks/<int:pk>/             GET  .      +.    .+    .    .   .      .    .
accounts/webhooks/<int:pk>/test/        POST .      +.    .+    .    .   .      .    .
accounts/webhooks/<int:pk>/enable/      POST .      +.    .+    .    .   .      .    .
accounts/webhooks/<int:pk>/delete/      POST .      +.    .+    .    .   .      .    .

# users, groups and the audit trail
users/                                  GET  -      -     -     -    -   -      -    +
users/tokens/                           GET  -      -     -     -    -   -      -    +
users/new/                              BOTH -      -     -     -    -   -      -    +
users/new/service/                      BOTH -      -     -     -    -   -      -    +
users/requests/                         GET  -      -     -     -    -   -      -    +
users/requests/<int:pk>/                BOTH -      -     -     -    -   -      -    +
users/requests/<int:pk>/decline/        POST -      -     -     -    -   -      -    +
users/<int:pk>/token/                   GET  -      -     -     -    -   -      -    /
users/<int:pk>/token/                   POST -      -     -     -    -   -      -    m
users/<int:pk>/                         GET  -      -     -     -    -   -      -    +
users/<int:pk>/edit/                    BOTH -      -     -     -    -   -      -    +
users/<int:pk>/deactivate/              BOTH -      -     -     -    -   -      -    +
users/<int:pk>/reactivate/              POST -      -     -     -    -   -      -    +
users/<int:pk>/anonymize/               BOTH -      -     -     -    -   -      -    +
users/<int:pk>/password/                POST -      -     -     -    -   -      -    +
users/<int:pk>/second-factor/reset/     POST -      -     -     -    -   -      -    m
groups/                                 GET  -      -     -     -    -   -      -    +
groups/new/                             BOTH -      -     -     -    -   -      -    +
groups/<int:pk>/                        BOTH -      -     -     -    -   -      -    +
configuration/                          GET  -      -     -     +    +   -      -    +
configuration/export/                   POST -      -     -     +    +   -      -    +
configuration/import/                   POST -      -     -     +    +   -      -    +
trail/                                  GET  -      +     +     +    +   -      +    +
trail/verify/                           POST -      -     -     -    +   -      -    +
trail/export/                           POST -      +     +     +    +   -      +    +
trail/patient/                          BOTH -      -     -     -    -   -      -    -
history/<slug:kind>/<int:pk>/           GET  .      +.    .+    .    +   .      +.   +
system/                                 GET  -      -     -     +    -   -      -    +
system/checks/                          GET  -      -     -     +    -   -      -    +
retention/                              BOTH -      -     -     -    -   -      -    +
retention/preview/                      GET  -      -     -     -    -   -      -    +
retention/ledgers/                      BOTH -      -     -     -    -   -      -    +
system/test-mail/                       POST -      -     -     m    -   -      -    m
first-steps/key/                        POST -      -     -     -    -   -      -    +
block-list/                             GET  -      -     -     -    +   -      -    -
block-list/new/                         BOTH -      -     -     -    +   -      -    -
block-list/<int:pk>/end/                BOTH -      -     -     -    +   -      -    -
block-list/<int:pk>/deliveries/         BOTH -      -     -     -    +   -      -    -
block-list/<int:pk>/recall/             BOTH -      -     -     -    +   -      -    -
block-list/recalls/                     GET  -      -     -     -    +   -      -    -
block-list/recalls/<int:pk>/            GET  -      -     -     -    +   -      -    -
block-list/recalls/<int:pk>/continue/   POST -      -     -     -    +   -      -    -
block-list/recalls/<int:pk>/images/     POST -      -     -     -    +   -      -    -
block-list/recalls/<int:pk>/confirm/<int:number>/  POST - - - - + - - -

# orders: drafts belong to their author, other drafts are expired ones
jobs/new/selective/                     BOTH -      +     +     -    -   -      -    -
jobs/new/selective/cancel/              POST -      +     +     -    -   -      -    -
jobs/new/selective/summary/<str:key>/   GET  -      /     /     -    -   -      -    -
jobs/new/selective/summary/<str:key>/   POST -      +     +     -    -   -      -    -
jobs/new/query/                         BOTH -      +     +     -    -   -      -    -
jobs/new/query/template.<str:form>      GET  -      +     +     -    -   -      -    -
jobs/new/query/<str:key>/columns/       GET  -      /     /     -    -   -      -    -
jobs/new/query/<str:key>/columns/       POST -      +     +     -    -   -      -    -
jobs/new/query/<str:key>/               GET  -      /     /     -    -   -      -    -
jobs/new/query/<str:key>/               POST -      +     +     -    -   -      -    -
jobs/new/transfer/                      BOTH -      +     +     -    -   -      -    -
jobs/new/transfer/template.<str:form>   GET  -      +     +     -    -   -      -    -
jobs/new/transfer/<str:key>/columns/    GET  -      /     /     -    -   -      -    -
jobs/new/transfer/<str:key>/columns/    POST -      +     +     -    -   -      -    -
jobs/new/transfer/<str:key>/            GET  -      /     /     -    -   -      -    -
jobs/new/transfer/<str:key>/            POST -      +     +     -    -   -      -    -

# jobs: seen by the owner, the members of the project, and people who see all jobs
jobs/                                   GET  +      +     +     +    +   +      +    +
jobs/data-protection/                   BOTH -      -     -     -    +   -      -    +
jobs/<int:pk>/                          GET  .      +.    .+    +    +   +      +.   +
jobs/<int:pk>/live/                     GET  .      +.    .+    +    +   +      +.   +
jobs/<int:pk>/report/                   GET  .      +.    .+    +    +   +      +.   +
jobs/<int:pk>/report.json               GET  .      +.    .+    +    +   +      +.   +
jobs/<int:pk>/rows/                     GET  .      +.    .+    +    +   +      +.   +
jobs/<int:pk>/result.<str:form>         GET  .      +.    .+    +    +   +      +.   +
jobs/<int:pk>/again.<str:form>          GET  .      +.    .+    -    -   +      +.   -
jobs/<int:pk>/results/                  BOTH .      +.    .+    +    +   +      +.   +
jobs/<int:pk>/results.<str:form>        GET  .      +.    .+    +    +   +      +.   +
jobs/<int:pk>/<int:position>/           GET  .      +.    .+    +    +   +      +.   +
jobs/<int:pk>/<int:position>/live/      GET  .      +.    .+    +    +   +      +.   +

# actions on jobs: the owner, and staff who see all jobs
jobs/<int:pk>/rows/start/               POST .      +.    .+    -    -   -      -.   +
jobs/<int:pk>/do/<slug:verb>/           POST .      +.    .+    m    m   m      m.   +
jobs/<int:pk>/return/                   POST .      m.    .m    m    m   m      m.   m
jobs/<int:pk>/recall/                   BOTH .      -.    .-    -    +   -      -.   -
jobs/<int:pk>/delete/                   GET  .      +.    .+    -    -   -      -.   +
jobs/<int:pk>/delete/                   POST .      m.    .m    -    -   -      -.   m
jobs/<int:pk>/password/<slug:verb>/     BOTH .      +.    .+    -    -   -      -.   +
jobs/<int:pk>/<int:position>/do/<slug:verb>/   POST . +. .+ m m m m. +
jobs/<int:pk>/<int:position>/decide/    POST .      -.    .-    -    -   -      -.   -

# downloads and withheld images
jobs/downloads/                         GET  -      +     +     -    -   -      -    -
jobs/<int:pk>/files/<int:number>/       GET  .      +.    .+    -    -   -      -.   -
jobs/withheld/                          GET  -      -     -     -    -   +      -    -
jobs/withheld/decisions/                GET  -      -     -     -    -   +      -    -
jobs/withheld/decisions/<int:pk>/       BOTH -      -     -     -    -   +      -    -
jobs/withheld/<int:pk>/                 BOTH -      -     -     -    -   +      -    -
jobs/withheld/<int:pk>/devices/         POST -      -     -     -    -   m      -    -
jobs/withheld/<int:pk>/picture.png      GET  -      -     -     -    -   +      -    -

# nodes: seen by groups with access, and by people who manage nodes
nodes/                                  GET  +      +     +     +    +   +      +    +
nodes/new/                              GET  -      -     -     +    -   -      -    +
nodes/new/<slug:kind>/                  BOTH -      -     -     +    -   -      -    +
nodes/stop/                             BOTH -      -     -     +    -   -      -    +
nodes/budgets/                          BOTH -      -     -     +    -   -      -    +
nodes/quarantine/                       GET  -      -     -     +    -   -      -    +
nodes/quarantine/delete/                POST -      -     -     m    -   -      -    m
nodes/<int:pk>/                         GET  .      +.    .+    +    .   .      +.   +
nodes/<int:pk>/test/                    POST .      +.    .+    +    .   .      +.   +
nodes/<int:pk>/edit/                    BOTH .      -.    .-    +    .   .      -.   +
nodes/<int:pk>/access/                  BOTH .      -.    .-    +    .   .      -.   +
nodes/<int:pk>/holidays/                BOTH .      -.    .-    +    .   .      -.   +
nodes/<int:pk>/pause/                   BOTH .      -.    .-    +    .   .      -.   +
nodes/<int:pk>/stop/                    BOTH .      -.    .-    +    .   .      -.   +
nodes/<int:pk>/delete/                  BOTH .      -.    .-    +    .   .      -.   +
nodes/<int:pk>/do/<slug:verb>/          POST .      m.    .m    +    .   .      m.   +
nodes/<int:pk>/sheet/                   GET  .      -.    .-    +    .   .      -.   +
nodes/<int:pk>/sheet.txt                GET  .      -.    .-    +    .   .      -.   +
nodes/<int:pk>/use.csv                  GET  .      -.    .-    +    .   .      -.   +
nodes/<int:pk>/use.xlsx                 GET  .      -.    .-    +    .   .      -.   +
nodes/<int:pk>/month/                   GET  .      -.    .-    +    .   .      -.   +
nodes/<int:pk>/month.xlsx               GET  .      -.    .-    +    .   .      -.   +
nodes/<int:pk>/month.pdf                GET  .      -.    .-    +    .   .      -.   +
nodes/<int:pk>/test/fetch/              POST .      -.    .-    +    .   .      -.   +
nodes/<int:pk>/test/write/              POST .      -.    .-    +    .   .      -.   +
nodes/<int:pk>/test/adopt/              POST .      -.    .-    m    .   .      -.   m
nodes/<int:pk>/connections/<int:slot>/end/     POST . -. .- m . . -. m

# DICOMweb, with a token of the person; pseudonymized
api/dicom-web/<str:ae_title>/qidors/studies                                        GET . + . - . . + -
api/dicom-web/<str:ae_title>/qidors/series                                         GET . + . - . . + -
api/dicom-web/<str:ae_title>/qidors/studies/<str:study>/series                     GET . + . - . . + -
api/dicom-web/<str:ae_title>/qidors/studies/<str:study>/instances                  GET . + . - . . + -
api/dicom-web/<str:ae_title>/qidors/studies/<str:study>/series/<str:series>/instances  GET . + . - . . + -
api/dicom-web/<str:ae_title>/wadors/studies/<str:study>                            GET . + . - . . - -
api/dicom-web/<str:ae_title>/wadors/studies/<str:study>/series                     GET . + . - . . + -
api/dicom-web/<str:ae_title>/wadors/studies/<str:study>/metadata                   GET . + . - . . - -
api/dicom-web/<str:ae_title>/wadors/studies/<str:study>/series/<str:series>        GET . + . - . . - -
api/dicom-web/<str:ae_title>/wadors/studies/<str:study>/series/<str:series>/metadata   GET . + . - . . - -
api/dicom-web/<str:ae_title>/wadors/studies/<str:study>/series/<str:series>/instances/<str:instance>           GET . + . - . . - -
api/dicom-web/<str:ae_title>/wadors/studies/<str:study>/series/<str:series>/instances/<str:instance>/metadata  GET . + . - . . - -
api/dicom-web/<str:ae_title>/wadors/studies/<str:study>/thumbnail                  GET . + . - . . - -
api/dicom-web/<str:ae_title>/wadors/studies/<str:study>/series/<str:series>/thumbnail  GET . + . - . . - -
api/dicom-web/<str:ae_title>/wadors/studies/<str:study>/series/<str:series>/instances/<str:instance>/thumbnail  GET . + . - . . - -
api/dicom-web/<str:ae_title>/wadors/studies/<str:study>/series/<str:series>/instances/<str:instance>/rendered  GET . + . - . . - -
api/dicom-web/<str:ae_title>/wadors/studies/<str:study>/series/<str:series>/instances/<str:instance>/frames/<str:frames>  GET . + . - . . - -
api/dicom-web/<str:ae_title>/wadors/studies/<str:study>/series/<str:series>/instances/<str:instance>/frames/<str:frames>/rendered  GET . + . - . . - -
api/dicom-web/<str:ae_title>/wadors/studies/<str:study>/series/<str:series>/instances/<str:instance>/bulkdata/<str:tag>  GET . + . - . . - -
api/dicom-web/<str:ae_title>/retrievals/<str:key>                                  GET . . . . . . . .
api/dicom-web/<str:ae_title>/stowrs/studies                                        POST . + . - . . + -
api/dicom-web/<str:ae_title>/stowrs/studies/<str:study>                            POST . + . - . . + -
api/dicom-web/<path:address>                                                         GET . . . . . . . .
api/dicom-web/<path:address>                                                         POST . . . . . . . .

# projects: seen by members, and by people who manage projects; profiles are seen by all
projects/                               GET  +      +     +     +    +   +      +    +
projects/new/                           BOTH +      +     +     +    +   +      +    +
projects/<int:pk>/                      GET  .      +.    .+    .    +   .      +.   +
projects/<int:pk>/edit/                 BOTH .      -.    .-    .    +   .      -.   +
projects/<int:pk>/extend/               BOTH .      -.    .-    .    +   .      -.   +
projects/<int:pk>/approval/             BOTH .      -.    .-    .    +   .      -.   +
projects/<int:pk>/approval.pdf          GET  .      +.    .+    .    +   .      +.   +
projects/<int:pk>/accept/               POST .      -.    .-    .    +   .      -.   +
projects/<int:pk>/revoke/               POST .      -.    .-    .    +   .      -.   +
projects/<int:pk>/destroy/              BOTH .      -.    .-    .    +   .      -.   +
projects/<int:pk>/pseudonyms/           GET  .      +.    .+    .    +   .      +.   +
projects/<int:pk>/import/               BOTH .      +.    .+    .    -   .      -.   -
projects/<int:pk>/export/               BOTH .      -.    .-    .    -   .      +.   -
jobs/uids/<int:pk>/                     BOTH .      -.    .-    .    -   .      +.   -
projects/<int:pk>/consent/              GET  .      -.    .-    .    -   .      +.   -
projects/<int:pk>/consent/new/          BOTH .      -.    .-    .    -   .      +.   -
projects/<int:pk>/consent/upload/       BOTH .      -.    .-    .    -   .      +.   -
projects/<int:pk>/consent/upload/check/ GET  .      -.    .-    .    -   .      /.   -
projects/<int:pk>/consent/upload/check/ POST .      -.    .-    .    -   .      +.   -
projects/<int:pk>/consent/template.<str:form>     GET  . -. .- . - . +. -
projects/<int:pk>/consent/versions/<int:number>/  GET  . -. .- . - . +. -
projects/<int:pk>/consent/export/       BOTH .      -.    .-    .    -   .      +.   -
projects/<int:pk>/consent/remove/       BOTH .      -.    .-    .    -   .      +.   -
projects/<int:pk>/consent/<int:number>/withdraw/  BOTH . -. .- . - . +. -
projects/<int:pk>/pseudonyms/<int:patient>/       BOTH . -. .- . - . +. -
projects/<int:pk>/pseudonyms/<int:patient>/join/  BOTH . -. .- . - . +. -
profiles/                               GET  +      +     +     +    +   +      +    +
profiles/<int:pk>/                      GET  +      +     +     +    +   +      +    +
profiles/<int:pk>/plain/                GET  +      +     +     +    +   +      +    +
profiles/<int:pk>/next/                 BOTH -      -     -     -    +   -      -    +
profiles/<int:pk>/pixels/               BOTH -      -     -     -    +   -      -    +
profiles/<int:pk>/try/                  BOTH -      +     +     -    -   +      +    -

# the interface for programs, with a token of the person
api/v1/me                               GET  +      +     +     +    +   +      +    +
api/v1/tokens                           GET  +      +     +     +    +   +      +    +
api/v1/tokens/<int:pk>                  GET  .      +.    .+    .    .   .      .    .
api/v1/tokens/<int:pk>                  DELETE .    +.    .+    .    .   .      .    .
api/v1/webhooks                         GET  +      +     +     +    +   +      +    +
api/v1/webhooks                         POST m      m     m     m    m   m      m    m
api/v1/webhooks/<int:pk>                GET  .      +.    .+    .    .   .      .    .
api/v1/webhooks/<int:pk>                DELETE .    +.    .+    .    .   .      .    .
api/v1/webhooks/<int:pk>/test           POST .      +.    .+    .    .   .      .    .
api/v1/webhooks/<int:pk>/enable         POST .      +.    .+    .    .   .      .    .
api/v1/webhooks/<int:pk>/deliveries     GET  .      +.    .+    .    .   .      .    .
api/v1/nodes                            GET  +      +     +     +    +   +      +    +
api/v1/nodes/<int:pk>                   GET  .      +.    .+    +    .   .      +.   +
api/v1/nodes/<int:pk>/test              POST .      +.    .+    +    .   .      +.   +
api/v1/projects                         GET  +      +     +     +    +   +      +    +
api/v1/projects/<str:protocol_id>       GET  .      +.    .+    .    +   .      +.   +
api/v1/projects/<str:protocol_id>/pseudonyms             GET  . +. .+ . + . +. +
api/v1/projects/<str:protocol_id>/pseudonyms/lookup      POST . -. .- . - . m. -
api/v1/projects/<str:protocol_id>/pseudonyms/reidentify  POST . -. .- . - . m. -
api/v1/projects/<str:protocol_id>/consent                GET  . -. .- . - . +. -
api/v1/projects/<str:protocol_id>/consent/lookup         POST . -. .- . - . m. -
api/v1/projects/<str:protocol_id>/consent/patients       POST . -. .- . - . m. -
api/v1/projects/<str:protocol_id>/consent/withdraw       POST . -. .- . - . m. -
api/v1/projects/<str:protocol_id>/consent/export         POST . -. .- . - . m. -
api/v1/profiles                         GET  +      +     +     +    +   +      +    +
api/v1/profiles/<int:pk>                GET  +      +     +     +    +   +      +    +
api/v1/searches                         POST m      +m    m+    m    m   m      +m   m
api/v1/jobs                             GET  +      +     +     +    +   +      +    +
api/v1/jobs                             POST -      +m    m+    -    -   -      -    -
api/v1/jobs/preview                     POST -      +m    m+    -    -   -      -    -
api/v1/jobs/<int:pk>                    GET  .      +.    .+    +    +   +      +.   +
api/v1/jobs/<int:pk>/tasks              GET  .      +.    .+    +    +   +      +.   +
api/v1/jobs/<int:pk>/tasks/<int:position>         GET . +. .+ + + + +. +
api/v1/jobs/<int:pk>/tasks/<int:position>/series  GET . +. .+ + + + +. +
api/v1/jobs/<int:pk>/series             GET  .      +.    .+    +    +   +      +.   +
api/v1/jobs/<int:pk>/rows               GET  .      +.    .+    +    +   +      +.   +
api/v1/jobs/<int:pk>/report.json        GET  .      +.    .+    +    +   +      +.   +
api/v1/jobs/<int:pk>/report.pdf         GET  .      +.    .+    +    +   +      +.   +
api/v1/jobs/<int:pk>/result.<str:form>  GET  .      +.    .+    +    +   +      +.   +
api/v1/jobs/<int:pk>/archive            GET  .      +.    .+    -    -   -      -.   -
api/v1/jobs/<int:pk>/actions/<str:name> POST .      +.    .+    m    m   m      m.   +
api/v1/jobs/<int:pk>/tasks/<int:position>/actions/<str:name> POST . +. .+ m m m m. +
"""  # noqa: E501 - long addresses


def read_table() -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the signs of all roles by pattern and method."""
    rows: dict[tuple[str, str], tuple[str, ...]] = {}
    for line in TABLE.splitlines():
        cells = line.split()
        if not cells or cells[0] == "#" or tuple(cells) == ROLES:
            continue
        pattern, methods, *signs = cells
        assert len(signs) == len(ROLES), line
        for method in ("GET", "POST") if methods == "BOTH" else (methods,):
            assert (pattern, method) not in rows, line
            rows["" if pattern == "(home)" else pattern, method] = tuple(signs)
    return rows


ROWS = read_table()


@dataclass(frozen=True)
class Site:
    """The arguments in addresses, for the objects of each project."""

    people: dict[str, User]
    arguments: dict[str, dict[str, Any]]
    orders: dict[str, dict[str, Any]]
    """An order of a study, as JSON of the API."""

    def address(self, pattern: str, project: str) -> str:
        values = self.arguments[project]
        address = f"/{pattern}"
        path = pattern.removeprefix(API)
        for name in re.findall(r"<\w+:(\w+)>", pattern):
            keys = (one for one in values if one == name or path.startswith(one.split("|")[0]))
            key = next(one for one in keys if one.endswith((name, f":{name}>")) or name == "pk")
            address = re.sub(rf"<\w+:{name}>", str(values[key]), address)
        return address


@pytest.fixture
def site(
    groups: dict[str, Group],
    make_user: Callable[..., User],
    make_job: Callable[..., Job],
    make_item: Callable[..., Any],
    make_node: Callable[..., Node],
    root: User,
    tmp_path: Path,
    settings: Any,
) -> Site:
    settings.SAMPLES_DIR = tmp_path
    settings.SELF_REGISTRATION = True
    (tmp_path / "a.xlsx").write_bytes(b"")
    lung, heart, holders = (
        Group.objects.create(name=name) for name in ("Lung", "Heart", "Lung key holders")
    )
    people = {
        "member": make_user("member"),
        "coord": make_user("coord", standard.COORDINATORS),
        "other": make_user("other", standard.COORDINATORS),
        "pacs": make_user("pacs", standard.PACS_ADMINISTRATORS),
        "dpo": make_user("dpo", standard.DATA_PROTECTION),
        "review": make_user("review", standard.REVIEWERS),
        "reid": make_user("reid", standard.RE_IDENTIFICATION),
        "admin": make_user("admin", standard.ADMINISTRATORS, is_staff=True),
    }
    people["coord"].groups.add(lung)
    people["other"].groups.add(heart)
    people["reid"].groups.add(lung, holders)
    (tmp_path / "a.7z").write_bytes(b"7-Z")
    archive = make_node("7-Zip", kind="archive", settings={"path": str(tmp_path)})
    arguments, orders = {}, {}
    for name, group, owner in (("LUNG", lung, "coord"), ("HEART", heart, "other")):
        node = make_node(f"PACS of {name}")
        uid = put_study(node)
        NodeAccess.objects.create(group=group, node=node, may_read=True, may_write=True)
        place = make_node(f"Archive of {name}")
        NodeAccess.objects.create(group=group, node=place, may_write=True)
        study = {"node": node.name, "study_uid": uid}
        orders[name] = {"kind": "selective", "destination": place.name, "studies": [study]}
        key = [holders] if name == "LUNG" else []
        project = create_complete_project(
            root,
            name,
            pattern=f"{name}-####",
            members=[group],
            list_holders=key,
            reidentifiers=key,
        )
        user = people[owner]
        pseudonyms.register_pseudonym(root, project, node, "PID-1")
        consent = save_consent(root, project, Consent(get_domain(node), PATIENT), "form received")
        store_document(root, project, "approval.pdf", b"%PDF-1.7\nstartxref\n0\n%%EOF\n")
        notify(
            [user], NotificationKind.PROJECT_ENDS, Message("class"), "/", event=f"project {name}"
        )
        recall = make_recall(root, make_job(user, project=project), make_item)
        arguments[name] = {
            **make_objects(user, project, make_job, make_item, archive),
            "nodes/<int:pk>": node.pk,
            "ae_title": node.api_ae_title,
            "projects/<int:pk>": project.pk,
            "projects/<int:pk>/consent/versions/|number": 1,
            "projects/<int:pk>/consent/|number": consent.pk,
            "jobs/uids/<int:pk>": project.pk,
            "profiles/<int:pk>": project.profile_id,
            "history/<slug:kind>/<int:pk>": project.pk,
            "block-list/<int:pk>": block_patient(
                root, None, "", f"PID-{name}", reason="objection", withdrawn_on=date.today()
            ).pk,
            "block-list/recalls/<int:pk>": recall.pk,
            "block-list/recalls/<int:pk>/confirm/|number": recall.confirmations.get().pk,
            "notifications/<int:pk>": Notification.objects.get(user=user, kind="project_ends").pk,
            "patient": Patient.objects.get(project=project).pk,
            "groups/<int:pk>": group.pk,
            "protocol_id": name,
            **VALUES,
        }
    return Site(people, arguments, orders)


def make_recall(root: User, job: Job, make_item: Callable[..., Any]) -> Recall:
    make_item(job.tasks.get(), expected=1, delivered=1)
    return start_recall(
        root, job, reason="x", confirm_by=timezone.localdate(), deletes_shared_archives=True
    )


def make_objects(
    user: User,
    project: Project,
    make_job: Callable[..., Job],
    make_item: Callable[..., Any],
    archive: Node,
) -> dict[str, Any]:
    """Create a job of each kind with its objects, and a session, a token and a webhook of the user."""
    job, query, transfer, packed = (make_job(user, project=project, state=state) for state in JOBS)
    Job.objects.filter(pk=query.pk).update(kind="batch_query")
    order = {**transfer.order, "source": transfer.tasks.get().source_id}
    Job.objects.filter(pk=transfer.pk).update(kind="batch_transfer", order=order)
    Job.objects.filter(pk=packed.pk).update(destination=archive)
    item = make_item(job.tasks.get(), expected=2, delivered=1, withheld=1)
    held = WithheldImages.objects.create(item=item, code="class", reason=Message("class"), images=1)
    now = timezone.now()
    decision = DeviceDecision.objects.create(
        project=project, decision="left", images=1, reason="x", decided_by=user, decided_at=now
    )
    file = ArchiveFile.objects.create(
        job=packed, round=0, name="a.7z", size_bytes=3, images=1, built_at=now, expires_at=now
    )
    Client().force_login(user)
    token, _text = tokens.create_token(user, user, "script", ["query"], days=7, nodes=None)
    url = "https://hooks.example.org/"
    webhook, _secret = create_webhook(user, "hook", url, WebhookEvent.values, None)
    return {
        "jobs/<int:pk>/results": query.pk,
        "jobs/<int:pk>/rows": transfer.pk,
        "jobs/<int:pk>/result.": transfer.pk,
        "jobs/<int:pk>/again.": transfer.pk,
        "jobs/<int:pk>/files": packed.pk,
        "jobs/<int:pk>/archive": packed.pk,
        "jobs/<int:pk>/password": packed.pk,
        "jobs/<int:pk>": job.pk,
        "jobs/withheld/<int:pk>": held.pk,
        "jobs/withheld/decisions/<int:pk>": decision.pk,
        "accounts/sessions/<int:pk>": UserSession.objects.get(user=user).pk,
        "accounts/tokens/<int:pk>": token.pk,
        "accounts/second-factor/keys/<int:pk>": 1,
        "tokens/<int:pk>": token.pk,
        "accounts/webhooks/<int:pk>": webhook.pk,
        "webhooks/<int:pk>": webhook.pk,
        "users/<int:pk>": user.pk,
        "users/requests/<int:pk>": AccountRequest.objects.create(username="new").pk,
        "number": file.pk,
    }


def classify(answer: HttpResponse) -> str:
    """Return what the answer means, as in the table."""
    location = answer.get("Location", "")
    if answer.status_code in BY_STATUS:
        return BY_STATUS[answer.status_code]
    if answer.status_code != 405 and answer.get("Content-Type") == "application/problem+json":
        return REFUSED
    if location.startswith("/accounts/login/"):
        return SIGN_IN
    request = cast(Any, answer).wsgi_request
    is_page_above = request.method == "GET" and location and request.path.startswith(location)
    if answer.status_code == 405 or is_page_above:
        return ELSEWHERE
    is_refused = any(one.level == ERROR for one in get_messages(request))
    return REFUSED if answer.status_code == 302 and is_refused else OK


def ask(client: Client, method: str, site: Site, pattern: str, project: str = "LUNG") -> str:
    cookies = client.cookies.copy()
    values, options = INPUT.get(pattern, {}), {}
    if "/wadors/" in pattern:
        values = PSEUDONYMIZED
    if pattern.startswith(API) and method != "GET":
        values, options = api_input(site, pattern, project), {"content_type": "application/json"}
    with undone():
        answer = getattr(client, method.lower())(site.address(pattern, project), values, **options)
        found = classify(answer)
        answer.getvalue()
    client.cookies = cookies
    return found


def api_input(site: Site, pattern: str, project: str) -> dict[str, Any]:
    if pattern == f"{API}searches":
        return {"node": f"PACS of {project}", "query": {"PatientID": "PID"}}
    return site.orders[project] if pattern in (f"{API}jobs", f"{API}jobs/preview") else {}


def with_token(client: Client, user: User) -> Client:
    """Let the client send a token with each request; only the API reads it."""
    _token, text = tokens.create_token(user, user, "API", Scope.values, days=7, nodes=None)
    client.defaults["HTTP_AUTHORIZATION"] = f"Token {text}"
    return client


def differs_by_project(pattern: str, method: str) -> bool:
    has_input = pattern.startswith(API) and method == "POST"
    return "<int:pk>" in pattern or "protocol_id" in pattern or has_input


def find_routes() -> list[str]:
    return [pattern for pattern, _name in all_patterns() if pattern not in PUBLIC]


def test_every_route_is_in_the_table() -> None:
    """Add a line for a new route, with the answers that each role should get."""
    assert {pattern for pattern, _method in ROWS} == set(find_routes())
    assert {pattern for pattern, _name in all_patterns()} > PUBLIC


@pytest.mark.parametrize("role", ROLES)
def test_each_role_gets_the_answers_in_the_table(
    role: str, site: Site, as_user: Callable[..., Client]
) -> None:
    client = with_token(as_user(site.people[role]), site.people[role])
    wrong = []
    for (pattern, method), signs in ROWS.items():
        expected = signs[ROLES.index(role)]
        projects = ("LUNG", "HEART") if differs_by_project(pattern, method) else ("LUNG",)
        found = [ask(client, method, site, pattern, one) for one in projects]
        if "".join(found) != (expected if len(expected) == 2 else expected * len(projects)):
            wrong.append(f"{method} {pattern}: {''.join(found)} instead of {expected}")
    assert not wrong, "\n".join(wrong)


def test_other_methods_are_not_possible(site: Site, as_user: Callable[..., Client]) -> None:
    """With an object of its own project, for a role that may do much with it."""
    client = with_token(as_user(site.people["coord"]), site.people["coord"])
    wrong = []
    for pattern in find_routes():
        for method in ("GET", "POST"):
            if (pattern, method) not in ROWS:
                found = ask(client, method, site, pattern)
                if found not in (ELSEWHERE, NO):
                    wrong.append(f"{method} {pattern}: {found}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("person", ["anonymous", "deactivated"])
def test_people_without_account_are_led_to_the_sign_in(
    person: str, site: Site, as_user: Callable[..., Client]
) -> None:
    user = site.people["admin"] if person == "deactivated" else None
    client = as_user(user)
    User.objects.filter(username="admin").update(is_active=person != "deactivated")
    wrong = []
    for pattern, _name in all_patterns():
        for method in ("GET", "POST"):
            found = ask(client, method, site, pattern)
            if (found == SIGN_IN) != (pattern not in PUBLIC):
                wrong.append(f"{method} {pattern}: {found}")
    assert not wrong, "\n".join(wrong)
