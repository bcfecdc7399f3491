"""The way in which statuses, Events and the Lease are written: the kubernetes client, as a service account or by KUBECONFIG."""

import os
from http import HTTPStatus

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

TIMEOUT = 10.0
"""Seconds that a request may take."""
MERGE = "application/merge-patch+json"
FAILURES = (ApiException, aiohttp.ClientError, OSError, TimeoutError)
"""What a request may raise."""


async def open_client() -> client.ApiClient:
    """Return a client; close it to end. Its token is read anew once a minute."""
    settings = client.Configuration()
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    else:
        await config.load_kube_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    settings.connection_pool_maxsize = 32
    return client.ApiClient(settings)


def status_of(error: ApiException) -> int:
    """Return the HTTP status of an error; 0: there was none."""
    return int(error.status or 0)


def explain(error: BaseException) -> str:
    """Return an error in one short line."""
    if isinstance(error, ApiException):
        text = " ".join(str(error.body or error.reason or "").split())[:300]
        return f"{error.status} {HTTPStatus(error.status).phrase if error.status else ''}: {text}"
    return f"{type(error).__name__}: {error}"[:300]
