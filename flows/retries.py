"""When a flow tries again: only after an error that says of itself that it may pass (recovery/errors.py)."""

from __future__ import annotations

from typing import Any

from recovery.errors import RowbackError

DELAYS_S: list[float] = [10, 60, 300]  # before the second, third and fourth attempt


def is_retryable(task: Any, run: Any, state: Any) -> bool:
    """Prefect's retry condition: whether the failed attempt ended in a retryable error of ours."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, RowbackError) and error.retryable
