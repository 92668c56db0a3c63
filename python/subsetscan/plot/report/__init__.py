"""One self-contained HTML page of what a scan found: nothing is loaded from elsewhere."""

from .page import check_libraries, write_report
from .results import Results, read_results

__all__ = ["Results", "check_libraries", "read_results", "write_report"]
