"""What gpu_check.py claims of a GPU, section by section; skipped without one."""

import sys

import pytest
import torch
from helpers.photos import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import gpu_check
from gpu_sections import correctness, recovery, running

pytestmark = [pytest.mark.training, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
SUBJECTS = (correctness.__name__, recovery.__name__)  # not speed, which needs a machine to itself


@pytest.mark.parametrize(
    "name", [name for name, section in gpu_check.SECTIONS.items() if section.function.__module__ in SUBJECTS]
)
def test_the_claims_of_a_section_hold(name):
    section = gpu_check.SECTIONS[name]
    if section.needs == "two" and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    result = running.run_section(section.function, "cuda", False, section.seconds)
    assert "error" not in result, result["error"]
    assert result["claims"]
    assert not {claim: verdict["found"] for claim, verdict in result["claims"].items() if not verdict["holds"]}
