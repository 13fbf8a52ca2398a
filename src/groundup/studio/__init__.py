"""What people look at: the report of a run."""

from groundup.studio.report import write_report

__all__ = ["write_report"]
