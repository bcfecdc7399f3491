"""Rules as routes. Each function looks at one object and what it refers to, and at nothing else."""

from collections.abc import Callable, Iterable

from controller.resources import Ingress, WsRoute
from controller.resources.kinds.ingress import BackendRef
from controller.resources.kinds.wsroute import WsRule, names_pods_by_host
from controller.resources.reading.problems import Problem, Reason
from controller.translate.policies import depends_on_path, policies_of
from controller.translate.policies.load_balancing import translate_load_balancing
from controller.translate.route_context import RouteContext
from proxy.model.config import Conditions, LoadBalancing, Pair, Path, PathKind, Route, Share, Target

Resolve = Callable[[BackendRef], str | Problem]
"""Return the key of a backend's upstream, or why there is none."""
_KINDS: dict[str, PathKind] = {"Prefix": "prefix", "Exact": "exact", "Regex": "regex"}


def _target(backends: tuple[BackendRef, ...], balancing: LoadBalancing, resolve: Resolve, problems: list[Problem]) -> Target:
    shares = []
    for backend in backends:
        upstream = resolve(backend)
        if isinstance(upstream, Problem):
            problems.append(upstream)
            shares.append(Share(None, backend.weight))
        else:
            shares.append(Share(upstream, backend.weight))
    return Target(tuple(shares), balancing)


def _conditions(rule: WsRule) -> Conditions:
    """Write conditions in one way, so that rules that ask for the same are seen to: each once, in order."""
    return Conditions(tuple(sorted(set(rule.subprotocols))), _pairs(rule.headers), _pairs(rule.query))


def _pairs(written: Iterable[tuple[str, str]]) -> tuple[Pair, ...]:
    return tuple(Pair(name, value) for name, value in sorted(set(written)))


def _path(kind: PathKind, value: str) -> Path:
    return Path(kind, (value.rstrip("/") or "/") if kind == "prefix" else value)


def translate_ws_route(item: WsRoute, resolve: Resolve) -> tuple[tuple[Route, ...], tuple[Problem, ...]]:
    """Make the routes of a WsRoute, one for each rule."""
    problems: list[Problem] = []
    routes = []
    if item.secret and not item.hosts:
        field = "spec.tls.secretName"
        message = (
            f'{field}: Secret "{item.ref.namespace}/{item.secret}" has no host to serve, as spec.hosts is absent; '
            "spec.hosts, or the controller's --default-certificate for any host, would be accepted."
        )
        problems.append(Problem(item.ref, Reason.UNSUPPORTED_VALUE, field, message))
    for index, rule in enumerate(item.rules):
        features = rule.features
        path = _path(_KINDS[rule.kind], rule.path)
        context = RouteContext(item.ref, item.uid, path, names_pods_by_host(item.hosts))
        targets = [
            None
            if backends is None
            else _target(backends, translate_load_balancing(features.load_balancing, websocket=websocket), resolve, problems)
            for backends, websocket in ((rule.websocket, True), (rule.http, False))
        ]
        routes.append(
            Route(
                id=f"wsroute/{item.ref.path}/{rule.name}",
                origin="wsroute",
                namespace=item.ref.namespace,
                name=item.ref.name,
                created=item.created,
                index=index,
                hosts=tuple(dict.fromkeys(item.hosts)) or ("",),
                path=path,
                conditions=_conditions(rule),
                websocket=targets[0],
                http=targets[1],
                policies=policies_of(features, context),
                fault=features.fault,
            )
        )
    return tuple(routes), (*problems, *item.problems)


def translate_ingress(item: Ingress, resolve: Resolve) -> tuple[tuple[Route, ...], tuple[Problem, ...]]:
    """Make the routes of an Ingress: one for each path, and of its default backend one for each host. All serve upgrades too.

    Redirects are added later, as they depend on what others say of TLS. Of a canary there is nothing.
    """
    features = item.features
    if features.canary:
        return (), ()
    problems: list[Problem] = []
    routes: list[Route] = []
    shared = None if depends_on_path(features) else policies_of(features, RouteContext(item.ref, item.uid, Path("prefix", "/")))

    def add(label: str, host: str, path: Path, backend: BackendRef, *, fallback: bool = False) -> None:
        http = _target((backend,), translate_load_balancing(features.load_balancing, websocket=False), resolve, problems)
        of_sockets = translate_load_balancing(features.load_balancing, websocket=True)
        routes.append(
            Route(
                id=f"ingress/{item.ref.path}/{label}",
                origin="ingress",
                namespace=item.ref.namespace,
                name=item.ref.name,
                created=item.created,
                index=len(routes),
                hosts=(host,),
                path=path,
                websocket=http if http.load_balancing == of_sockets else Target(http.shares, of_sockets),
                http=http,
                policies=policies_of(features, RouteContext(item.ref, item.uid, path)) if shared is None else shared,
                fallback=fallback,
                fault=features.fault,
            )
        )

    for number, path in enumerate(item.paths):
        add(str(number), path.host, _path(path.kind, path.literal or path.path), path.backend)
    if item.default_backend is not None:
        # Beside rules it is for their hosts, alone for hosts that nobody names.
        for host in dict.fromkeys((*(path.host for path in item.paths), *item.bare_hosts)) or ("",):
            add(f"default-{host}" if host else "default", host, Path("prefix", "/"), item.default_backend, fallback=True)
    return tuple(routes), tuple(dict.fromkeys(problems))
