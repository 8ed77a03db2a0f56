"""Looking for the usual faults of an installation and of its indexes, each with its mend."""

from odqa.doctor.checks import Check, Finding, Surroundings
from odqa.doctor.run import run_checks

__all__ = ["Check", "Finding", "Surroundings", "run_checks"]
