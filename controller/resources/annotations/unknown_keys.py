"""Annotations that are in no table: what each may be meant for, whether that is a guard, and which are those of other controllers.

Under the two prefixes that are read an unknown key may be a misspelt guard, so it counts as one where it is near to one or reads
like one. Those under other prefixes are not ours: keys of other controllers are reported, keys of tools are not.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.resources.annotations.annotation import NGINX, OURS

GUARD_WORDS = (
    "allow", "apikey", "auth", "bearer", "black", "block", "captcha", "cidr", "csrf", "deny", "firewall", "forbid", "guard", "jwt",
    "ldap", "limit", "login", "mtls", "oidc", "origin", "passw", "permit", "protect", "quota", "restrict", "saml", "security",
    "snippet", "throttl", "verify", "white",
)  # fmt: skip
"""What stands in the name of a guard, in whatever words it is written."""
SHORT_GUARD_WORDS = frozenset(("acl", "ban", "ip", "ips", "rate", "rps", "rpm", "waf"))
"""The same, as words of their own: they stand within others too, as `ip` does in `description`."""
MOST_MISSPELT = 2
"""Letters by which a key may differ from the one that is meant; of a short one, one letter."""
SHORT = 7
"""Letters from which on a key is not short."""
MOST_NAMED = 3
_LONGEST = 64
"""Letters of a key that are looked at: the API server takes 63 behind the prefix."""

# Prefixes of controllers and gateways that read Ingresses; what has `ingress` for a word of its prefix is one too.
_CONTROLLERS = frozenset(
    (
        "nginx.org", "nginx.com", "haproxy.org", "haproxy-ingress.github.io", "haproxy.com", "traefik.io", "konghq.com",
        "projectcontour.io", "getambassador.io", "voyager.appscode.com", "zalando.org", "networking.gke.io",
    )
)  # fmt: skip
_INGRESS = re.compile(r"(?:^|[.-])ingress(?:[.-]|$)")
_GCE = frozenset(f"kubernetes.io/ingress.{name}" for name in ("allow-http", "global-static-ip-name", "regional-static-ip-name"))


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an unknown key may be meant for."""

    near: tuple[str, ...]
    """Known keys, with their prefixes, the nearest first."""
    guards: bool
    """It may be a guard: the routes that it protects are closed."""


class KnownKeys:
    """Every annotation that means something under one of the two prefixes, whether it is read or not.

    `read`: keys with their prefixes; `unread`: the same of those that are known and not read. True: a guard.
    """

    __slots__ = ("_keys", "_letters", "_ours", "_read")

    def __init__(self, read: Mapping[str, bool], unread: Mapping[str, bool]) -> None:
        self._keys = {**unread, **read}
        self._read = frozenset(read)
        self._letters = {key: _letters(key.partition("/")[2]) for key in self._keys}
        self._ours = {key: words for key in sorted(read) if key.startswith(OURS) for words in [_words(key.removeprefix(OURS))]}

    def meaning(self, unknown: str) -> Meaning:
        """Say what an unknown key, with one of the two prefixes, may be meant for."""
        prefix, _, name = unknown.partition("/")
        name = name[:_LONGEST]
        if nearest := self._nearest(prefix, _letters(name)):
            return Meaning(nearest[:MOST_NAMED], any(self._keys[key] for key in nearest))
        words = _words(name)
        if prefix + "/" == OURS and (part_of := [key for key, known in self._ours.items() if _is_part(words, known)]):
            return Meaning(tuple(part_of[:MOST_NAMED]), any(self._keys[key] for key in part_of))
        guards = reads_like_a_guard(name)
        return Meaning(self._likest(prefix, name, guards=guards), guards)

    def _nearest(self, prefix: str, letters: str) -> tuple[str, ...]:
        """Return the keys from which an unknown one differs in the fewest letters, guards first; another prefix is a letter too."""
        distances: dict[str, int] = {}
        for key, known in self._letters.items():
            most = MOST_MISSPELT if min(len(known), len(letters)) >= SHORT else 1
            apart = misspelt_letters(letters, known, most)
            if apart is not None:
                distances[key] = apart + (not key.startswith(prefix + "/"))
        least = min(distances.values(), default=0)
        nearest = (key for key, apart in distances.items() if apart == least)
        return tuple(sorted(nearest, key=lambda key: (not self._keys[key], not key.startswith(prefix + "/"), key)))

    def _likest(self, prefix: str, name: str, *, guards: bool) -> tuple[str, ...]:
        known = {
            self._letters[key]: key
            for key in sorted(self._read)
            if key.startswith(prefix + "/") and (self._keys[key] or not guards)
        }
        return tuple(known[letters] for letters in difflib.get_close_matches(_letters(name), known, MOST_NAMED, 0.55))

    def is_read(self, key: str) -> bool:
        """Tell whether a known key is read."""
        return key in self._read

    def without_prefix(self, key: str) -> tuple[str, ...]:
        """Return the keys that are read and may be meant by one without a prefix, or whose prefix is misspelt."""
        prefix, slash, name = key.rpartition("/")
        letters = _letters(name[:_LONGEST])
        return tuple(
            known
            for known in sorted(self._read)
            if self._letters[known] == letters and (not slash or _nearly(prefix.lower(), known.partition("/")[0]))
        )


def reads_like_a_guard(name: str) -> bool:
    """Tell whether a key, without its prefix, has a word of guards in it."""
    letters = _letters(name)
    return any(word in letters for word in GUARD_WORDS) or not SHORT_GUARD_WORDS.isdisjoint(_words(name))


def _letters(name: str) -> str:
    """Return a name as it is compared: without case, dashes, underscores and dots."""
    return re.sub(r"[-_.]", "", name).lower()


def _words(name: str) -> tuple[str, ...]:
    """Return the words of a name, which may be written with dashes, underscores, dots or capitals."""
    return tuple(re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower().replace("_", "-").replace(".", "-").strip("-").split("-"))


def _is_part(words: tuple[str, ...], known: tuple[str, ...]) -> bool:
    return any(known[start : start + len(words)] == words for start in range(len(known) - len(words) + 1))


def misspelt_letters(one: str, other: str, most: int) -> int | None:
    """Count the letters that were left out, added, changed or swapped with the next one; None: more than `most`.

    Optimal string alignment, of which only what lies within `most` of the diagonal is worked out.
    """
    if abs(len(one) - len(other)) > most:
        return None
    far = most + 1
    before, row = list[int](), [min(column, far) for column in range(len(other) + 1)]
    for number, letter in enumerate(one, 1):
        now = [far] * (len(other) + 1)
        now[0] = min(number, far)
        for column in range(max(1, number - most), min(len(other), number + most) + 1):
            against = other[column - 1]
            now[column] = min(row[column] + 1, now[column - 1] + 1, row[column - 1] + (letter != against))
            if number > 1 and column > 1 and letter == other[column - 2] and one[number - 2] == against:
                now[column] = min(now[column], before[column - 2] + 1)
        if min(now) > most:
            return None
        before, row = row, now
    return row[-1] if row[-1] <= most else None


def of_other_controllers(keys: Iterable[str]) -> list[str]:
    """Return the keys that some other controller reads, or that nearly have one of our prefixes, in order."""
    return sorted(key for key in keys if key in _GCE or _is_of_a_controller(key.partition("/")[0].lower(), key))


def _is_of_a_controller(prefix: str, key: str) -> bool:
    if "/" not in key or key.startswith((OURS, NGINX)):
        return False
    if prefix in _CONTROLLERS or _INGRESS.search(prefix) is not None:
        return True
    return _nearly(prefix, OURS[:-1]) or _nearly(prefix, NGINX[:-1])


def _nearly(prefix: str, known: str) -> bool:
    """Tell whether a prefix is one of the two but for some letters, or ours in another domain."""
    other_domain = known == OURS[:-1] and "sluice" in prefix.split(".")
    return other_domain or misspelt_letters(prefix, known, MOST_MISSPELT) is not None
