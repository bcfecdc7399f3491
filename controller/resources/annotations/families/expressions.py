"""Paths as regular expressions, and the path that the backend sees of them."""

from collections.abc import Mapping
from typing import Any

from controller.resources.annotations.annotation import NGINX, Annotation, Family, Refused, read_go_bool
from controller.resources.features.expressions import TARGET_HINT, ExpressionSpec, RewriteTarget, parse_rewrite_target

USE_REGEX = NGINX + "use-regex"
REWRITE_TARGET = NGINX + "rewrite-target"


def _flag(text: str) -> bool | Refused:
    value = read_go_bool(text)
    return Refused('which asks for no regular expressions; "true" or "false" would be accepted.') if value is None else value


def _target(text: str) -> RewriteTarget | Refused:
    return parse_rewrite_target(text) or Refused(TARGET_HINT)


def build(values: Mapping[str, Any]) -> ExpressionSpec:
    """Make the feature."""
    return ExpressionSpec(values.get("use_regex", False), values.get("target"))


FAMILY = Family(
    "Paths as regular expressions",
    (
        Annotation(
            USE_REGEX,
            parse=_flag,
            attribute="use_regex",
            values='`"true"`, `"false"` (default)',
            says="paths are regular expressions, [as in ingress-nginx](ingress-nginx.md#paths-regular-expressions-rewrites)",
        ),
        Annotation(
            REWRITE_TARGET,
            parse=_target,
            attribute="target",
            values="a path, with `$1` to `$9` for groups; a URL",
            says="the backend sees this path, or clients are redirected to the URL; paths are regular expressions. "
            "`sluice.dev/rewrite-prefix` wins where both are set",
        ),
    ),
    "expressions",
    build,
)
