"""Certificates that have ended or have not begun: what is served, what is said, and when that changes."""

import dataclasses
import math

from controller.resources import Secret
from controller.resources.reading.object_ref import ObjectRef
from controller.sources.certificate_dates import CertificateDates
from controller.sources.snapshot import SourceSnapshot, Store
from proxy.model.sensitive import Sensitive

REF = ObjectRef("Secret", "shop", "tls")
DAY = 86400.0
NOW = 1000 * DAY


def made(name: str, begin: float, end: float) -> Secret:
    """A Secret with a certificate of these dates, in days from now."""
    return Secret(REF, name.encode(), Sensitive(b"key"), NOW + end * DAY, (), NOW + begin * DAY)


GOOD, ENDED, EARLY = made("good", -10, 10), made("ended", -20, -1), made("early", 1, 30)


class Kept:
    """A store whose clock the test sets, and what is served of its one Secret."""

    def __init__(self) -> None:
        self.now = NOW
        self.store = Store(lambda: self.now)
        self.dates = CertificateDates()

    def judged(self) -> SourceSnapshot:
        return self.dates.check(self.store.snapshot(), self.now)

    def served(self) -> tuple[str, str]:
        secret = self.judged().secrets[REF]
        return secret.chain.decode(), secret.misdated


def test_valid_certificate_is_served_and_the_snapshot_is_handed_on_as_it_is() -> None:
    kept = Kept()
    kept.store.apply(GOOD)

    assert kept.judged() is kept.store.snapshot()
    assert kept.served() == ("good", "")
    assert kept.dates.next_change == GOOD.not_after + 1


def test_certificate_with_wrong_dates_is_served_and_said_where_there_is_no_other() -> None:
    kept = Kept()
    kept.store.apply(ENDED)
    assert kept.served() == ("ended", "ended on 1972-09-26T00:00:00Z and is served all the same, though clients refuse it")
    kept.store.apply(EARLY)
    assert kept.served() == ("early", "begins on 1972-09-28T00:00:00Z and is served all the same, though clients refuse it")


def test_both_dates_belong_to_the_time_in_which_a_certificate_is_valid() -> None:
    kept = Kept()
    kept.store.apply(made("second", 0, 0))
    assert kept.served() == ("second", "")
    kept.now = NOW + 0.9
    assert kept.served() == ("second", "")
    kept.now = NOW + 1
    assert kept.served()[1].startswith("ended on ")
    kept.now = NOW - 0.1
    assert kept.served()[1].startswith("begins on ")


def test_good_certificate_stays_until_the_one_that_took_its_place_begins() -> None:
    kept = Kept()
    kept.store.apply(GOOD)
    kept.store.apply(EARLY)
    said = "begins on 1972-09-28T00:00:00Z, so the one before it is served, until 1972-10-07T00:00:00Z"
    assert kept.served() == ("good", said)
    assert kept.dates.next_change == EARLY.not_before
    assert not kept.store.apply(EARLY)  # as a list of a watch that begins anew does

    assert kept.served() == ("good", said)
    kept.now = EARLY.not_before
    assert kept.served() == ("early", "")
    assert kept.judged() is kept.store.snapshot()


def test_good_certificate_stays_until_it_ends_itself() -> None:
    kept = Kept()
    kept.store.apply(GOOD)
    for bad in (ENDED, made("ended too", -30, -2), ENDED):
        kept.store.apply(bad)
        assert kept.served()[0] == "good"
    kept.now = GOOD.not_after + 1
    assert kept.served() == ("ended", "ended on 1972-09-26T00:00:00Z and is served all the same, though clients refuse it")
    kept.store.apply(made("renewed", 5, 50))
    assert kept.served() == ("renewed", "")


def test_certificate_that_ended_keeps_no_other_from_its_place() -> None:
    kept = Kept()
    kept.store.apply(ENDED)
    kept.store.apply(EARLY)

    assert kept.store.snapshot().secrets[REF].last_good is None
    assert kept.served()[0] == "early"


def test_secret_that_is_removed_is_forgotten_with_what_was_before() -> None:
    kept = Kept()
    kept.store.apply(GOOD)
    kept.store.remove(REF)
    kept.store.apply(ENDED)

    assert kept.served()[0] == "ended"


def test_what_comes_out_the_same_keeps_its_identity() -> None:
    kept = Kept()
    kept.store.apply(ENDED)
    other = dataclasses.replace(GOOD, ref=ObjectRef("Secret", "shop", "other"))
    first = kept.judged()
    assert kept.judged() is first
    kept.store.apply(other)
    second = kept.judged()
    kept.now += DAY

    assert second is not first
    assert second.secrets[REF] is first.secrets[REF]
    assert second.secrets[other.ref] is kept.store.snapshot().secrets[other.ref]
    assert kept.judged() is second


def test_clock_that_is_set_back_is_heard() -> None:
    kept = Kept()
    kept.store.apply(GOOD)
    assert kept.served() == ("good", "")
    kept.now = GOOD.not_before - 1

    assert kept.served()[1].startswith("begins on ")


def test_nothing_changes_where_no_certificate_is() -> None:
    kept = Kept()
    kept.judged()

    assert kept.dates.next_change == math.inf
