"""From what a source knows to what the proxy serves, and to verdicts on the objects. Pure: no clock, no I/O, no log.

A translation is whole every time: the result is a function of the snapshot and the settings. The state of the last one makes it
cheap (`incremental.py` tells how); a new state changes nothing but the time taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem
from controller.sources.snapshot import SourceSnapshot
from controller.translate.incremental import IncrementalState
from controller.translate.settings import TranslateSettings
from controller.translate.verdicts import Condition, Verdict
from proxy.model.config import ProxyConfig


@dataclass(frozen=True, slots=True)
class Translation:
    """The result: the configuration, and the verdicts on the objects."""

    config: ProxyConfig
    verdicts: Mapping[ObjectRef, Verdict]
    """Of every Ingress and WsRoute that is ours; of objects of other classes there is none."""
    problems: tuple[Problem, ...]
    """Everything that is wrong, in order of the objects, those without a verdict among them."""
    notes: tuple[Problem, ...]
    """What is wrong with Secrets that no object of ours names, in order: it harms nothing. Where `note_endpoints` asks for it, then
    which backends have no endpoint that is ready: they may get one."""
    classless: tuple[str, ...]
    """Objects that name an IngressClass that does not exist, as ids of their routes begin, in order."""
    state: IncrementalState
    """For the next translation."""


def translate(snapshot: SourceSnapshot, settings: TranslateSettings, state: IncrementalState | None = None) -> Translation:
    """Translate everything. `state` is brought up to date; without one everything is done from the start."""
    state = IncrementalState() if state is None else state
    state.update(snapshot, settings)
    return Translation(state.config, state.verdicts, state.problems, state.notes, state.classless, state)


__all__ = ["Condition", "IncrementalState", "TranslateSettings", "Translation", "Verdict", "translate"]
