"""Rendezvous hashing: even shares, and no key moves that need not."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from proxy.model.config import Share
from proxy.upstream.balance import Shares
from proxy.upstream.rendezvous import hash_key, highest_ranked, mix, seed_of


class One:
    def __init__(self, number: int) -> None:
        self.seed = seed_of(f"10.0.{number // 250}.{number % 250}", 8080)


ENDPOINTS = [One(number) for number in range(50)]
KEYS = [hash_key(str(number)) for number in range(20_000)]


def test_shares_are_even() -> None:
    for count in (2, 3, 10, 50):
        found = Counter([id(highest_ranked(key, ENDPOINTS[:count])) for key in KEYS])

        assert len(found) == count
        assert all(abs(share * count / len(KEYS) - 1) < 0.2 for share in found.values())


@given(st.text(), st.integers(2, 50), st.data())
def test_key_moves_only_with_its_endpoint(text: str, count: int, data: st.DataObject) -> None:
    endpoints = ENDPOINTS[:count]
    gone = data.draw(st.sampled_from(endpoints))
    before = highest_ranked(hash_key(text), endpoints)
    after = highest_ranked(hash_key(text), [one for one in endpoints if one is not gone])

    assert after is not gone
    assert after is before or before is gone


@given(st.text(), st.permutations(ENDPOINTS[:8]))
def test_order_of_the_endpoints_does_not_matter(text: str, shuffled: list[One]) -> None:
    assert highest_ranked(hash_key(text), shuffled) is highest_ranked(hash_key(text), ENDPOINTS[:8])


@given(st.integers(0, (1 << 30) - 1))
def test_numbers_stay_in_a_machine_word(number: int) -> None:
    assert 0 <= mix(number) < 1 << 30


def test_ranks_are_what_they_were() -> None:
    """Pods of the proxy of two versions rank alike, or every key would move during an upgrade."""
    assert (hash_key("a"), seed_of("10.0.0.1", 80), mix(1)) == (170085461, 60861322, 758502917)


def test_share_of_a_key_follows_the_weights() -> None:
    shares = Shares([Share("a", 90), Share("b", 10), Share("c", 0)])
    found = Counter([share.upstream for key in KEYS if (share := shares.choose_for(key)) is not None])

    assert set(found) == {"a", "b"}
    assert abs(found["b"] / len(KEYS) - 0.1) < 0.01


def test_share_without_weights_is_none() -> None:
    assert Shares([Share("a", 0)]).choose_for(5) is None
