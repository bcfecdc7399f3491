"""Who may come at all, by origin and by network."""

from controller.resources.annotations.annotation import NGINX, Annotation, Family, Guard, ours
from controller.resources.annotations.values import comma_list, networks
from controller.resources.features.access import ORIGIN_HINT, parse_origin

_NETWORKS = "networks and addresses, separated by commas"


def _alias(name: str, rule: str, means: str) -> Annotation:
    return Annotation(NGINX + name, guard=Guard.TEXT, values="the same", says=means, parse=networks, rule=(rule,))


FAMILY = Family(
    "Who may come",
    (
        ours(
            "origins",
            comma_list(parse_origin, ORIGIN_HINT),
            "origins, separated by commas",
            "upgrades with another `Origin`, or with none, get 403; `https://*.example.com` has one label for `*`",
            guard=Guard.TEXT,
        ),
        ours("allowCIDRs", networks, _NETWORKS, "clients of other networks get 403", guard=Guard.TEXT),
        ours("denyCIDRs", networks, _NETWORKS, "clients of these networks get 403, also where they are allowed", guard=Guard.TEXT),
        _alias("allowlist-source-range", "allowCIDRs", "as `allow-cidrs`, which wins where both are set"),
        _alias("whitelist-source-range", "allowCIDRs", "as `allowlist-source-range`, which wins where both are set"),
        _alias("denylist-source-range", "denyCIDRs", "as `deny-cidrs`, which wins where both are set"),
    ),
    "access",
)
