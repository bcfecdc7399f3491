"""From what a source knows to what the proxy serves, and what the owners of objects are told. Pure: no clock, no I/O, no log.

A translation is whole every time: the result is a function of the snapshot and the settings. What makes it cheap is a memo of the
last one (`incremental.py` tells how); a new memo changes nothing but the time taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem
from controller.sources.snapshot import SourceSnapshot
from controller.translate.incremental import Memo
from controller.translate.settings import TranslateSettings
from controller.translate.verdicts import Condition, Verdict
from proxy.model.config import ProxyConfig


@dataclass(frozen=True, slots=True)
class Translation:
    """The result: what is served, and what is said."""

    config: ProxyConfig
    verdicts: Mapping[ObjectRef, Verdict]
    """Of every Ingress and WsRoute that is ours; of objects of other classes there is none."""
    problems: tuple[Problem, ...]
    """Everything that is wrong, in order of the objects: what verdicts say, and what is wrong with objects that have none."""
    notes: tuple[Problem, ...]
    """What is wrong with Secrets that no object of ours names, in order: it harms nothing. Where `note_endpoints` asks for it, then
    which backends have no endpoint that is ready: they may get one."""
    classless: tuple[str, ...]
    """Objects that name an IngressClass that does not exist, as ids of their routes begin, in order."""
    memo: Memo
    """For the next translation."""


def translate(snapshot: SourceSnapshot, settings: TranslateSettings, memo: Memo | None = None) -> Translation:
    """Translate everything. `memo` is brought up to date; without one everything is done from the start."""
    memo = Memo() if memo is None else memo
    memo.update(snapshot, settings)
    return Translation(memo.config, memo.verdicts, memo.problems, memo.notes, memo.classless, memo)


__all__ = ["Condition", "Memo", "TranslateSettings", "Translation", "Verdict", "translate"]
