"""The server's log on standard error: one line a record, text or JSON, beside the request log's own lines."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

from kaelum_adapters.openai_api.request_log import WHOLE_LINE, LineForm, as_line


class LineFormatter(logging.Formatter):
    """Time, level, logger and message on one line; a traceback is the last field in JSON, the next lines in text."""

    def __init__(self, form: LineForm) -> None:
        super().__init__()
        self._form: LineForm = form

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        if getattr(record, WHOLE_LINE, False):
            return record.getMessage()
        traceback = self.formatException(record.exc_info) if record.exc_info else None
        line = as_line(
            {
                "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
                "traceback": traceback if self._form == "json" else None,
            },
            self._form,
        )
        return f"{line}\n{traceback}" if traceback and self._form == "text" else line


def start_log(*, form: LineForm, level: str) -> None:
    """Send what the server and uvicorn have to say to standard error, from `level` up (uvicorn: warnings at least)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(form))
    least = logging.getLevelNamesMapping()[level.upper()]
    for name, at_least in (("kaelum", least), ("uvicorn", max(least, logging.WARNING))):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(at_least)
        logger.propagate = False
