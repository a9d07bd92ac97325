"""x."""

from typing import Any

from cpsd.report.page.run_files import RunFiles


def comparison_context(files: RunFiles) -> dict[str, Any]:
    """X."""
    return {}
