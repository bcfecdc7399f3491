"""Annotations of an Ingress as features, by the table. The only reader of annotations.

Three kinds of keys: ours, ingress-nginx's that we understand, and ingress-nginx's that we do not: each of those is reported by name
with what to do instead, because an annotation that is silently ignored is a security policy that evaporated. So may one be that is
misspelt: `unknown_keys` tells which may be meant.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from controller.resources.annotations.annotation import NGINX, OURS, Annotation, Guard, Refused, asks, our_key, protects
from controller.resources.annotations.families.canary import CANARY, NOT_SERVED, is_canary
from controller.resources.annotations.sentences import ASKS_FOR_NOTHING, other_controllers, unknown_key, unreadable_guard
from controller.resources.annotations.table import ANNOTATIONS, FAMILIES, FAMILY_OF, KNOWN, ORDER
from controller.resources.annotations.unknown_keys import MOST_NAMED, Meaning, of_other_controllers
from controller.resources.features import Features, parse_features
from controller.resources.features.https_redirect import HttpsRedirectSpec
from controller.resources.reading.fields import Reader, as_mapping, metadata_of, shown
from controller.resources.reading.problems import Reason

MOST_KEYS = 10
"""Keys of other controllers that a message names."""
UNANNOTATED = Features(https_redirect=HttpsRedirectSpec(where_tls=True))
"""Of an Ingress whose annotations ask for nothing: nearly all share it."""


@lru_cache(maxsize=1024)
def meaning_of(key: str) -> Meaning:
    """Say what a key that does not exist may be meant for; thousands of objects may have the same."""
    return KNOWN.meaning(key)


def annotations_of(reader: Reader, raw: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations of an object. The API server takes strings only; in a folder, what YAML makes of others counts too."""
    written = reader.mapping(reader.mapping(raw, "metadata", "metadata"), "annotations", "metadata.annotations")
    return {key: value if isinstance(value, str) else _as_text(value) for key, value in written.items() if isinstance(key, str)}


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.date):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else shown(value)


def check_strings(reader: Reader, raw: Mapping[str, Any]) -> None:
    """Collect annotations that are no strings, as in a file without quotes, and what they are read as: no cluster takes them.

    One without a value is none of them: the API server reads it as an empty string.
    """
    for key, value in as_mapping(metadata_of(raw).get("annotations")).items():
        if isinstance(key, str) and value is not None and not isinstance(value, str):
            text = shown(_as_text(value))
            message = f"no string was found; it is read as {text}, and a cluster refuses it; {text} in quotes would be accepted."
            _report(reader, key, message)


def read_features(reader: Reader, annotations: Mapping[str, str]) -> Features:
    """Read what the annotations of an Ingress ask for; what is wrong or not supported is reported.

    Of a canary nothing else is read, as nothing of it is served.
    """
    if is_canary(annotations.get(CANARY, "")) is True:
        _report(reader, CANARY, NOT_SERVED)
        return replace(UNANNOTATED, canary=True)
    reading = _Reading(reader, annotations)
    for annotation in sorted((ANNOTATIONS[key] for key in annotations if key in ANNOTATIONS), key=_order):
        if annotation.understood:
            reading.take(annotation)
        else:
            reading.report_unread(annotation)
    for key in sorted(annotations):
        if key.startswith((OURS, NGINX)) and key not in ANNOTATIONS:
            reading.report_unknown(key)
    _report_other_controllers(reader, annotations)
    return reading.features()


def _order(annotation: Annotation) -> int:
    return ORDER[annotation.key]


class _Reading:
    """What was read so far of the annotations of one Ingress."""

    def __init__(self, reader: Reader, annotations: Mapping[str, str]) -> None:
        self._reader, self._annotations = reader, annotations
        self._values: dict[str, Any] = {}
        """By key."""
        self._targets: set[tuple[str, ...]] = set()
        self._fault = ""

    def take(self, annotation: Annotation) -> None:
        """Read the value of an annotation, unless another one that sets the same counts."""
        target = (FAMILY_OF[annotation.key].feature, *annotation.target)
        if annotation.parse is None or target in self._targets or annotation.yields_to in self._annotations:
            return
        value = annotation.parse(self._annotations[annotation.key])
        if isinstance(value, Refused):
            self._refuse(annotation, value.hint, closes=value.closes)
        elif annotation.needs and annotation.needs not in self._annotations:
            self._refuse(annotation, f"alone it means nothing, {annotation.needs} beside it would be accepted.")
        else:
            self._values[annotation.key] = value
            self._targets.add(target)

    def _refuse(self, annotation: Annotation, hint: str, *, closes: bool = False) -> None:
        value = shown(self._annotations[annotation.key])
        if closes:
            _report(self._reader, annotation.key, unreadable_guard(value, hint))
            self._close(f"{annotation.key} is not supported")
        elif annotation.guard is Guard.NONE:
            _report(self._reader, annotation.key, f"{value} was found, {hint}")
        else:
            _report(self._reader, annotation.key, unreadable_guard(value, hint))
            self._close(f"{annotation.key} cannot be read")

    def report_unread(self, annotation: Annotation) -> None:
        """Report an annotation that is known and not understood."""
        value = self._annotations[annotation.key]
        _report(self._reader, annotation.key, sentence_about(annotation, value))
        if protects(annotation, value):
            self._close(f"{annotation.key} is not supported")

    def report_unknown(self, key: str) -> None:
        """Report a key that does not exist, which may be a guard that is misspelt."""
        meaning = meaning_of(key)
        guards = meaning.guards and (key.startswith(OURS) or asks(self._annotations[key]))
        _report(self._reader, key, _about_unknown(key, meaning, guards=guards))
        if guards:
            self._close(f"{key} is not supported")

    def _close(self, fault: str) -> None:
        self._fault = self._fault or fault

    def features(self) -> Features:
        """Return what the annotations ask for."""
        rule: dict[str, Any] = {}
        arguments: dict[str, dict[str, Any]] = {}
        for key, value in self._values.items():
            annotation = ANNOTATIONS[key]
            if value is None or (annotation.needs and annotation.needs not in self._values):
                continue  # the one that it needs cannot be read, which is reported
            if annotation.rule:
                _put(rule, annotation.rule, value)
            else:
                arguments.setdefault(FAMILY_OF[key].feature, {})[annotation.attribute] = value
        if not rule and not arguments and not self._fault:
            return UNANNOTATED
        built: dict[str, Any] = {"https_redirect": UNANNOTATED.https_redirect}
        for family in FAMILIES if arguments else ():
            if family.build is not None and family.feature in arguments:
                built[family.feature] = family.build(arguments[family.feature])
        features = self._with_rule(rule, built)
        if self._fault:
            features = replace(features, fault=self._fault)
        return UNANNOTATED if features == UNANNOTATED else features

    def _with_rule(self, rule: Mapping[str, Any], built: Mapping[str, Any]) -> Features:
        """Read annotations that stand for fields of a rule as a rule of a WsRoute is read."""
        inner = Reader(self._reader.ref)
        features = parse_features(inner, "", rule, **built)
        for problem in inner.problems:
            key = our_key(problem.field.removeprefix("."))
            _report(self._reader, key, problem.message.removeprefix(f"{problem.field}: "))
            if key in ANNOTATIONS and ANNOTATIONS[key].guard is not Guard.NONE:
                self._close(f"{key} cannot be read")
        return features


def _report(reader: Reader, key: str, text: str) -> None:
    reader.report(f"metadata.annotations[{key}]", text, Reason.UNSUPPORTED_VALUE)


def _put(rule: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for name in path[:-1]:
        rule = rule.setdefault(name, {})
    rule[path[-1]] = value


def sentence_about(annotation: Annotation, value: str) -> str:
    """Return what the owner of an object reads about an annotation that is not understood."""
    off = annotation.guard is not Guard.NONE and not protects(annotation, value)
    return (ASKS_FOR_NOTHING if off else annotation.says).format(name=annotation.name)


def _about_unknown(key: str, meaning: Meaning, *, guards: bool) -> str:
    ours = key.startswith(OURS)
    read = [near for near in meaning.near if KNOWN.is_read(near)]
    if ours or read or not meaning.near:
        prefix = "" if ours else NGINX
        return unknown_key([near.removeprefix(prefix) for near in read], ours=ours, guards=guards)
    value = "true" if guards or not meaning.guards else ""
    nearest = sentence_about(ANNOTATIONS[meaning.near[0]], value)
    return unknown_key([near.removeprefix(NGINX) for near in meaning.near], ours=ours, guards=guards, about_nearest=nearest)


def _report_other_controllers(reader: Reader, annotations: Mapping[str, str]) -> None:
    """Report in one sentence the keys of other controllers, and those whose prefix is misspelt or absent."""
    others = of_other_controllers(annotations)
    keys = others + [key for key in sorted(annotations) if "/" not in key and KNOWN.without_prefix(key)]
    if not keys:
        return
    near = list(dict.fromkeys(known for key in keys for known in KNOWN.without_prefix(key)))[:MOST_NAMED]
    message = other_controllers(keys[:MOST_KEYS], len(keys) - MOST_KEYS, (OURS, NGINX), near)
    reader.report("metadata.annotations", message, Reason.UNSUPPORTED_VALUE)
