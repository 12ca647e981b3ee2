"""Logs of other programs in, typed results with their questions out: what lm-eval and inspect_ai wrote themselves.

    is_log(path)                whether a file or folder is such a log
    logs_below(folder)          the logs in a folder, a result each
    read_log(path)              the result and its questions
    refuse_logs(paths, reason)  for commands that are about results of this program alone

A log says less than a result of this program: what it does not say (token ids, hashes of weights) is absent, and every report
says "not told". Its own package because other programs change their formats, and nothing else here knows these.
"""

from orca_bench.results.foreign.log_results import ForeignLog
from orca_bench.results.foreign.logs import is_log, log_note, logs_below, read_log, refuse_logs

__all__ = ["ForeignLog", "is_log", "log_note", "logs_below", "read_log", "refuse_logs"]
