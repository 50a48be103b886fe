"""Rows about the records of visits: what holds of visits holds of them, and each is the record of a visit."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from partners.certification import writing
from partners.certification.bench import NotOffered
from partners.certification.trial import Trial, require
from partners.contract import Entity, VisitRecord

_RECORD = Entity.VISIT_RECORD


def one_record(trial: Trial) -> None:
    """The record of a visit is created, changed and cancelled as one record."""
    _writes_records(trial)
    writing.one(trial, _RECORD)


def content(trial: Trial) -> None:
    """It stands at the partner's side as it was said; one of a client who was not there does not."""
    _writes_records(trial)
    writing.as_it_was_said(trial, _RECORD)
    record = trial.new(_RECORD)
    absent = trial.accepted(replace(record, fields=VisitRecord(None, None, "absent", "")))
    left = {str(each.get("status")) for each in trial.bench.said(absent)} - {"absent", "cancelled"}
    require(not left, f"one of a client who was not there stands there as {', '.join(sorted(left))}")


def repeated(trial: Trial) -> None:
    """A change and a cancellation of one that are sent twice make no second record and are no refusal."""
    _writes_records(trial)
    writing.sent_twice(trial, _RECORD)


def found(trial: Trial) -> None:
    """Where records can be found, its absence and difference are told; elsewhere it is said that they cannot be."""
    _writes_records(trial)
    writing.read_back(trial, _RECORD)


def answer_lost(trial: Trial) -> None:
    """One whose answer is lost, when created, changed or cancelled, is Unknown if it took effect, and recovered."""
    _writes_records(trial)
    for prepared in (trial.new, trial.delivered, trial.cancellation):
        writing.lost(trial, partial(prepared, _RECORD), writing.FEW_CUTS)


def _writes_records(trial: Trial) -> None:
    if _RECORD not in trial.bench.partner.writes:
        raise NotOffered("no records of visits are written")
    if _RECORD not in trial.bench.writes:
        raise NotOffered("a real system is spared records of visits")
