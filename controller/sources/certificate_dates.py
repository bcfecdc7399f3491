"""Which certificates have ended or have not begun: the one thing about objects that time alone changes.

A snapshot is judged by the shell, which has a clock, before it is translated, which has none. What has the wrong dates is served
all the same, as clocks differ and some clients look at no dates, but its owner is told. The certificate that was there before it is
served instead, while that one is valid.
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
    """Judges one chain of snapshots; what comes out the same keeps its identity."""

    __slots__ = ("_given", "_judged", "_replaced", "_since", "next_change")

    def __init__(self) -> None:
        self._given: SourceSnapshot | None = None
        self._judged = SourceSnapshot()
        self._replaced: dict[ObjectRef, Secret] = {}
        self._since = 0.0
        self.next_change = math.inf
        """Unix time when a certificate begins or ends next; infinite: none does."""

    def judge(self, snapshot: SourceSnapshot, now: float) -> SourceSnapshot:
        """Return a snapshot with the Secrets that are to be served at a time (Unix), each with what is wrong with its dates."""
        same = snapshot is self._given
        if same and self._since <= now < self.next_change:
            return self._judged
        before, self._replaced = self._replaced, {}
        self._since, self.next_change = now, math.inf
        for ref, secret in snapshot.secrets.items():
            for one in (secret, secret.last_good):
                if one is not None:
                    self.next_change = min(self.next_change, _change_after(one, now))
            if not is_valid(secret, now):
                judged = _judged(secret, now)
                known = before.get(ref)
                self._replaced[ref] = known if known is not None and known == judged else judged
        if same and self._replaced == before:
            return self._judged
        self._given = self._judged = snapshot
        if self._replaced:
            secrets = MappingProxyType({**snapshot.secrets, **self._replaced})
            self._judged = dataclasses.replace(snapshot, secrets=secrets)
        return self._judged


def _change_after(secret: Secret, now: float) -> float:
    # RFC 5280, 4.1.2.5: both dates belong to the time in which it is valid, in whole seconds.
    return min((time for time in (secret.not_before, secret.not_after + 1) if time > now), default=math.inf)


def _judged(secret: Secret, now: float) -> Secret:
    early = now < secret.not_before
    found = f"begins on {_date(secret.not_before)}" if early else f"ended on {_date(secret.not_after)}"
    good = secret.last_good
    if good is not None and is_valid(good, now):
        return dataclasses.replace(good, misdated=f"{found}, so the one before it is served, until {_date(good.not_after)}")
    return dataclasses.replace(secret, misdated=f"{found} and is served all the same, though clients refuse it")


def _date(time: float) -> str:
    # The year 9999 says that there is no end (RFC 5280, 4.1.2.5).
    return f"{dt.datetime.fromtimestamp(time, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
