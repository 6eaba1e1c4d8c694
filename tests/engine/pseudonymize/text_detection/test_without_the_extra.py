"""Without the extra "ocr", the engine works as before, and says what it cannot check."""

from dataclasses import replace
from pathlib import Path

import pytest
from lab.deid_objects import CR, CT, change, header, instance

from adit_engine.cli.main import main
from adit_engine.cli.transfer import ExitCode
from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.admission import sop_class_refusal
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.profile import ConfidentialityProfile, TextDetection
from adit_engine.pseudonymize.text_detection.detector import is_installed

pytestmark = pytest.mark.skipif(is_installed(), reason="the extra ocr is installed")

US = "1.2.840.10008.5.1.4.1.1.6.1"
REQUIRED = replace(ConfidentialityProfile.default(), text_detection=TextDetection.IMAGES_AND_SLICES)


@pytest.mark.parametrize("decision", RiskDecision)
@pytest.mark.parametrize("sop_class", [CR, CT])
def test_images_that_must_be_checked_are_withheld(sop_class: str, decision: RiskDecision) -> None:
    required = replace(change(), profile=REQUIRED, annotation_decision=decision)

    with pytest.raises(InstanceWithheld) as held:
        apply(required, instance(header(sop_class)))

    assert held.value.message.code == "text-detection.not-installed"
    assert "Ask the administrator" in str(held.value)


def test_ultrasound_is_announced_as_withheld() -> None:
    refusal = sop_class_refusal(US, REQUIRED)

    assert refusal is not None
    assert refusal.code == "text-detection.not-installed"


def test_other_profiles_need_nothing() -> None:
    assert apply(change(), instance(header(CR)))
    assert apply(change(), instance(header(CT)))


def test_the_command_line_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = ["--from", str(tmp_path / "a"), "--to", str(tmp_path / "b"), "--all", "--generate"]

    code = main(["transfer", *ends, "--text-detection", "on"])

    assert code == ExitCode.WRONG_USE
    assert "adit[ocr]" in capsys.readouterr().err
