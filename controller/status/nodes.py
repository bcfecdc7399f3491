"""Addresses of the nodes where pods of ours are ready: what Ingresses show where clients reach ports of the nodes, not a Service.

Only the leader asks. It lists and does not watch: that needs one right, to list the pods of its own namespace, and what a rollout
does within a few seconds is written once.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterable

from kubernetes.aio import client

from controller.resources.reading.stored_status import Addresses
from controller.status.client import FAILURES, TIMEOUT, explain

_log = logging.getLogger("sluice.status")
PERIOD = 10.0
"""Seconds between two lists."""


def node_addresses(pods: Iterable[client.V1Pod]) -> Addresses:
    """Return the addresses of the nodes of pods that are ready and do not terminate, IPv4 first, each once, in order."""
    addresses = {address for pod in pods if _is_ready(pod) for address in _host_addresses(pod)}
    return tuple((str(address), "") for address in sorted(addresses, key=lambda address: (address.version, int(address))))


def _is_ready(pod: client.V1Pod) -> bool:
    if pod.status is None or pod.metadata is None or pod.metadata.deletion_timestamp is not None:
        return False
    return any(condition.type == "Ready" and condition.status == "True" for condition in pod.status.conditions or ())


def _host_addresses(pod: client.V1Pod) -> Iterable[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    if pod.status is None:
        return
    # hostIPs has both families of a node, from Kubernetes 1.30 on; hostIP is the first of them.
    for text in (pod.status.host_ip, *(entry.ip for entry in pod.status.host_ips or ())):
        try:
            yield ipaddress.ip_address(text or "")
        except ValueError:
            continue


class Nodes:
    """Follows the nodes while this replica leads. `changed` is called when `addresses` did."""

    def __init__(self, namespace: str, selector: str, leading: Callable[[], bool], changed: Callable[[], None]) -> None:
        """`selector`: labels of the pods, as Kubernetes writes them, ``name=value,..``."""
        self._namespace, self._selector = namespace, selector
        self._leading, self._changed = leading, changed
        self._wake = asyncio.Event()
        self._failing = ""
        self.addresses: Addresses = ()
        """Empty: not known yet. Once known, the last node stays while no pod is ready: an Ingress never loses its last address."""

    def wake(self) -> None:
        """Ask now."""
        self._wake.set()

    async def run(self, api: client.ApiClient) -> None:
        """Ask for ever."""
        pods = client.CoreV1Api(api)
        while True:
            self._wake.clear()
            if self._leading():
                await self._ask(pods)
            try:
                async with asyncio.timeout(PERIOD):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _ask(self, pods: client.CoreV1Api) -> None:
        try:
            # Version 0: what the API server holds in memory will do.
            listed = await pods.list_namespaced_pod(
                self._namespace, label_selector=self._selector, resource_version="0", _request_timeout=TIMEOUT
            )
        except FAILURES as error:
            if (reason := explain(error)) != self._failing:
                _log.warning(
                    "pods=%s/%s error=%r Ingresses keep their addresses; trying again", self._namespace, self._selector, reason
                )
            self._failing = reason
            return
        self._failing = ""
        addresses = node_addresses(listed.items)
        if addresses and addresses != self.addresses:
            _log.info("pods=%s/%s nodes=%s", self._namespace, self._selector, ",".join(address for address, _ in addresses))
            self.addresses = addresses
            self._changed()
