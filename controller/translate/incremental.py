"""What makes the next translation cost what changed, not what there is: the state of a chain of translations.

A translation is a chain of stages (`stages.py`), each with a memory of its own, each given only what became dirty before it:

    objects      an Ingress or WsRoute is translated anew when its record, a Service that it names, or the Secret of a tls entry
                 without hosts is another value
    host owners  hosts and their namespaces, where hosts are not shared; a new owner makes every object that names the host dirty
    paths        what the paths of Ingresses are, literal or expressions; one that comes to ask for these, or no longer does, makes
                 the Ingresses of its namespace on its hosts dirty
    conflicts    places (host, kind, path, conditions) that several routes want; only dirty places are decided anew
    TLS hosts    the Secret of each host, only of dirty hosts; a host that comes or goes makes the Ingresses under it dirty
    routes       what is served: hosts of others taken away, redirects added
    upstreams    endpoints, only of Service ports whose users, Service or slices changed
    certificates one for each Secret that a host has
    verdicts     of every object that a stage above named

Change is found by identity: the source's store keeps the very same record as long as an object is the same, and gives the very
same mapping as long as nothing of a kind changed. Results keep their identity in turn whenever they come out equal, so that
no later step encodes or digests them again. No stage depends on the order in which anything arrived: each is a function of the
set of its inputs, and tests hold the result to that of a translation from the start.

An exception in the middle would leave stages that disagree, so a state that was not brought to its end starts anew.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem
from controller.sources.snapshot import SourceSnapshot
from controller.translate.certificates import secret_ref, translate_certificate
from controller.translate.settings import TranslateSettings
from controller.translate.stages import Stages, Update
from controller.translate.upstreams import UnreadyBackend
from controller.translate.verdict_stage import list_notes, list_problems, refresh_verdicts
from controller.translate.verdicts import Verdict
from proxy.model.config import EMPTY, Certificate, ProxyConfig


class IncrementalState:
    """The result of the last translation, and what the next one needs. One state belongs to one chain of translations."""

    def __init__(self) -> None:
        self._stages: Stages | None = None
        self.config: ProxyConfig = EMPTY
        self.verdicts: Mapping[ObjectRef, Verdict] = MappingProxyType({})
        self.changed_verdicts: Collection[ObjectRef] = ()
        """Objects whose verdict the last update made, changed, or took back."""
        self.changed_readiness: Mapping[ObjectRef, tuple[UnreadyBackend, ...]] = {}
        """Objects whose backends without a ready endpoint may have changed in the last update, and which these are now."""
        self.problems: tuple[Problem, ...] = ()
        self.notes: tuple[Problem, ...] = ()
        self.classless: tuple[str, ...] = ()

    def update(self, snapshot: SourceSnapshot, settings: TranslateSettings) -> None:
        """Bring everything up to date."""
        stages, self._stages = self._stages, None
        self.changed_verdicts = ()
        self.changed_readiness = {}
        if stages is None or stages.settings != settings:
            stages = Stages(settings)
        elif stages.snapshot is snapshot:
            self._stages = stages
            return
        update = Update(stages, snapshot)
        update.translate_objects()
        self.classless = update.find_classless(self.classless)
        update.resolve_host_owners()
        update.resolve_paths()
        update.resolve_conflicts()
        update.resolve_tls()
        routes_differ = update.serve_routes()
        upstreams_differ = update.resolve_upstreams()
        self.changed_readiness = update.take_changed_readiness()
        self.changed_verdicts = refresh_verdicts(stages, snapshot, update.verdicts_to_refresh)
        self.config = _config(self.config, stages, snapshot, routes_differ=routes_differ, upstreams_differ=upstreams_differ)
        if self.changed_verdicts:
            self.verdicts = MappingProxyType(dict(stages.verdicts))
        if self.changed_verdicts or update.problems_differ:
            self.problems, self.notes = list_problems(stages, snapshot), list_notes(stages, snapshot)
        stages.snapshot = snapshot
        self._stages = stages


def _config(
    before: ProxyConfig, stages: Stages, snapshot: SourceSnapshot, *, routes_differ: bool, upstreams_differ: bool
) -> ProxyConfig:
    """Put the configuration together; parts that did not change are those of `before`, and so is the whole."""
    default = stages.settings.default_certificate or None
    if default is not None and secret_ref(default) not in snapshot.secrets:
        default = None
    wanted = set(stages.tls.secrets.values()) | ({default} if default is not None else set())
    certificates: dict[str, tuple[object, Certificate]] = {}
    for key in wanted:
        secret = snapshot.secrets[secret_ref(key)]
        known = stages.certificates.get(key)
        certificates[key] = known if known is not None and known[0] is secret else (secret, translate_certificate(secret))
    stages.certificates = certificates
    config = ProxyConfig(
        routes=dict(stages.served_by_id) if routes_differ else before.routes,
        upstreams=dict(stages.upstreams.values) if upstreams_differ else before.upstreams,
        certificates={key: certificate for key, (_, certificate) in certificates.items()},
        tls_hosts=dict(stages.tls.secrets),
        default_certificate=default,
    )
    same = (
        config.routes is before.routes
        and config.upstreams is before.upstreams
        and config.certificates == before.certificates
        and config.tls_hosts == before.tls_hosts
        and config.default_certificate == before.default_certificate
    )
    return before if same else config
