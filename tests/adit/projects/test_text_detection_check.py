"""`adit doctor` says whether the text detection is installed, works, and is needed."""

from dataclasses import replace

import pytest

from adit import service_checks
from adit.accounts.models import User
from adit.projects.models import Project
from adit.projects.profile_versions import create_version, parse_rules
from adit.projects.services import choose_profile
from adit_engine.pseudonymize.profile import TextDetection
from adit_engine.pseudonymize.text_detection import detector

pytestmark = pytest.mark.django_db


def find_check() -> service_checks.ServiceFinding:
    found = list(service_checks.check_services())
    return next(one for one in found if one.subject.startswith("text detection"))


def test_a_missing_detector_is_a_problem_only_if_a_profile_looks_at_pixels(
    root: User, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "is_installed", lambda: False)
    assert find_check().subject == "text detection (extra ocr): not installed"
    assert not find_check().next_step

    rules = parse_rules(project.profile)
    looking = replace(rules, version=rules.version + 1, text_detection=TextDetection.IMAGES)
    choose_profile(root, project, create_version(root, looking.to_text()))

    assert str(project.profile) in find_check().next_step
    assert "requirements/ocr.txt" in find_check().next_step


@pytest.mark.skipif(detector.is_installed(), reason="the extra ocr is installed and works")
def test_a_detector_that_cannot_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "is_installed", lambda: True)

    assert "does not work" in find_check().next_step
