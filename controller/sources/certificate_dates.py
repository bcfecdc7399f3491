"""Which certificates have ended or have not begun: the one thing about objects that time alone changes.

A snapshot is checked before it is translated, as the translation has no clock. What has the wrong dates is served all the same, as
clocks differ and some clients check no dates, but it is a problem of the objects that name it. The certificate before it is served
instead, while that is valid.
"""

import dataclasses
import datetime as dt
import math
from types import MappingProxyType

from controller.resources import Secret
from controller.resources.kinds.secret import is_valid
from controller.resources.reading.object_ref import ObjectRef
from controller.sources.snapshot import SourceSnapshot


class CertificateDates:
    """Checks one chain of snapshots; what comes out the same keeps its identity."""

    __slots__ = ("_checked", "_given", "_replaced", "_since", "next_change")

    def __init__(self) -> None:
        self._given: SourceSnapshot | None = None
        self._checked = SourceSnapshot()
        self._replaced: dict[ObjectRef, Secret] = {}
        self._since = 0.0
        self.next_change = math.inf
        """Unix time when a certificate begins or ends next; infinite: none does."""

    def check(self, snapshot: SourceSnapshot, now: float) -> SourceSnapshot:
        """Return a snapshot with the Secrets that are to be served at a time (Unix), each with what is wrong with its dates."""
        same = snapshot is self._given
        if same and self._since <= now < self.next_change:
            return self._checked
        before, self._replaced = self._replaced, {}
        self._since, self.next_change = now, math.inf
        for ref, secret in snapshot.secrets.items():
            for version in (secret, secret.last_good):
                if version is not None:
                    self.next_change = min(self.next_change, _change_after(version, now))
            if not is_valid(secret, now):
                checked = _with_dates(secret, now)
                known = before.get(ref)
                self._replaced[ref] = known if known is not None and known == checked else checked
        if same and self._replaced == before:
            return self._checked
        self._given = self._checked = snapshot
        if self._replaced:
            secrets = MappingProxyType({**snapshot.secrets, **self._replaced})
            self._checked = dataclasses.replace(snapshot, secrets=secrets)
        return self._checked


def _change_after(secret: Secret, now: float) -> float:
    # RFC 5280, 4.1.2.5: both dates belong to the time in which it is valid, in whole seconds.
    return min((time for time in (secret.not_before, secret.not_after + 1) if time > now), default=math.inf)


def _with_dates(secret: Secret, now: float) -> Secret:
    early = now < secret.not_before
    dates = f"begins on {_date(secret.not_before)}" if early else f"ended on {_date(secret.not_after)}"
    good = secret.last_good
    if good is not None and is_valid(good, now):
        return dataclasses.replace(good, misdated=f"{dates}, so the one before it is served, until {_date(good.not_after)}")
    return dataclasses.replace(secret, misdated=f"{dates} and is served all the same, though clients refuse it")


def _date(time: float) -> str:
    # The year 9999 says that there is no end (RFC 5280, 4.1.2.5).
    return f"{dt.datetime.fromtimestamp(time, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
