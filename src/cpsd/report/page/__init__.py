"""The report page: one HTML file that works offline, for a run and for a comparison."""

from cpsd.report.page.write import REPORT_FILE, write_comparison_report, write_report

__all__ = ["REPORT_FILE", "write_comparison_report", "write_report"]
