"""The pages' words: every word that goes over the wire has one, and none is left of a word that no longer does."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest

from pipelines.verdict import REASON_WORDS, VerdictName
from service import dashboard
from service.audit_rows import Action
from service.dashboard.text import catalogue
from service.feed_wire import FeedState
from service.review_queue import ItemState
from service.review_rows import Decision, Role
from service.review_wire import DecisionReason, SkipReason
from service.schemas import AnalysisStatus
from service.settings import Scope
from service.severity import Level
from service.shown_settings import Group
from service.stream_session import DropCause

FORM = Path(dashboard.__file__).with_name("islands") / "desk" / "form.ts"


@pytest.mark.parametrize(
    ("section", "wire", "own"),
    [
        ("states", (*get_args(AnalysisStatus), *get_args(VerdictName)), ()),
        ("reasons", REASON_WORDS, ()),
        ("actions", get_args(Action), ()),
        ("scopes", get_args(Scope), ()),
        ("setting_groups", get_args(Group), ()),
        ("decisions", get_args(Decision), ()),
        ("decision_reasons", get_args(DecisionReason), ()),
        ("skip_reasons", get_args(SkipReason), ()),
        ("review_roles", get_args(Role), ()),
        ("item_states", get_args(ItemState), ()),
        ("levels", get_args(Level), ()),
        ("feed_states", get_args(FeedState), ("elsewhere", "seat")),
        ("drops", get_args(DropCause), ("browser_busy", "no_room")),
    ],
)
def test_every_word_of_the_wire_has_its_own(section: str, wire: Iterable[str], own: tuple[str, ...]) -> None:
    """`own` are those that a page says by itself."""
    words = catalogue()[section]
    assert set(words) == {*wire, *own}
    assert all(words.values())


@pytest.mark.parametrize(("name", "reasons"), [("REASONS", get_args(DecisionReason)), ("SKIPS", get_args(SkipReason))])
def test_the_form_offers_every_reason(name: str, reasons: tuple[str, ...]) -> None:
    found = re.search(rf"^const {name}: [^=]* = \[(.*?)\];", FORM.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None
    assert sorted(re.findall(r'"(\w+)"', found[1])) == sorted(reasons)
