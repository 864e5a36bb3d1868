"""One result of doctor: what was looked at, what was found, why it matters and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    FAIL = "fail"
    ADVICE = "advice"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """why and fix are empty unless the verdict is fail or advice."""

    name: str
    verdict: Verdict
    message: str
    why: str = ""
    fix: str = ""


def ok(name: str, message: str) -> Check:
    return Check(name, Verdict.OK, message)


def fail(name: str, message: str, why: str, fix: str) -> Check:
    return Check(name, Verdict.FAIL, message, why, fix)


def advice(name: str, message: str, why: str, fix: str) -> Check:
    return Check(name, Verdict.ADVICE, message, why, fix)


def skipped(name: str, message: str) -> Check:
    return Check(name, Verdict.SKIPPED, message)
