"""One self-contained HTML page of what a scan found: nothing is loaded from elsewhere."""

from .page import check_libraries, write_report
from .results import Results, read_results
from .sequences import sequence_results

__all__ = ["Results", "check_libraries", "read_results", "sequence_results", "write_report"]
