"""One self-contained HTML page of what a scan found: nothing is loaded from elsewhere."""

from .page import write_report
from .results import Results, read_results

__all__ = ["Results", "read_results", "write_report"]
