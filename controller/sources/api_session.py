"""How the API server is reached: one session for every watch, its token read anew as the kubelet rotates it.

Stands where kopf's client looks for its vault, so that kopf's streams and requests run without kopf's operator: that one takes the
signals, cancels every task of its loop when it ends, and ends when a single kind stays away (docs/architecture.md, kopf).
"""

import asyncio
import dataclasses
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import kopf
from kopf._cogs.clients import auth
from kopf._cogs.structs.credentials import KubeContext, LoginError, VaultKey

_log = logging.getLogger("sluice.sources")
TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
TOKEN_SECONDS = 60.0
"""How long a token is used before its file is looked at again; the kubelet renews it after four fifths of its life."""
TRIES = 2
"""A request is repeated once with what a new login gives."""
_ACCEPTED = "a pod's service account or KUBECONFIG would be accepted"
_KEY = VaultKey("sluice")


class ApiSessionError(Exception):
    """There is no way to the API server; the message is a sentence."""


def log_in(settings: kopf.OperatorSettings) -> kopf.ConnectionInfo:
    """Find the API server: as a pod's service account, else by KUBECONFIG or ~/.kube/config. Raises `ApiSessionError`."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    info = kopf.login_with_service_account(settings=settings) if host else None
    if info is not None:
        # By address: the API server must be found while the cluster's DNS is away.
        return dataclasses.replace(info, server=f"https://{f'[{host}]' if host and ':' in host else host}:{port}")
    try:
        info = kopf.login_via_client(logger=_log, settings=settings)
    except (kopf.LoginError, LoginError, OSError) as error:
        raise ApiSessionError(f"No API server is configured ({error}); {_ACCEPTED}.") from None
    if not isinstance(info, kopf.ConnectionInfo):
        raise ApiSessionError(f"No API server is configured; {_ACCEPTED}.")
    return info


class ApiSession:
    """The session of this process. Offers what kopf asks of a vault: `extended` and `invalidate`."""

    def __init__(self, settings: kopf.OperatorSettings) -> None:
        self._settings = settings
        self._info = log_in(settings)
        self._context: auth.APIContext | None = None
        self._read_at = time.monotonic()
        self._refusal: Exception | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self._info.server

    def install(self) -> None:
        """Let kopf's client use this session, in the tasks that are started after this."""
        auth.vault_var.set(self)  # type: ignore[arg-type]  # it asks a vault for nothing else

    async def extended(
        self, factory: Callable[[KubeContext], Any], purpose: str | None = None
    ) -> AsyncIterator[tuple[VaultKey, KubeContext, Any]]:
        """Yield the session, again after `invalidate`; raises what refused it once too often."""
        del purpose
        for _ in range(TRIES):
            self._renew()
            if self._context is None or self._context.session.closed:
                self._context = factory(self._info)
            yield _KEY, self._info, self._context
        raise self._refusal or ApiSessionError("The API server refused every login.")

    async def invalidate(self, key: VaultKey, info: KubeContext, *, exc: Exception | None = None) -> None:
        """Log in anew: the credentials were refused, or the session was closed."""
        del key, info
        self._refusal = exc
        self._use(log_in(self._settings))

    def _renew(self) -> None:
        if time.monotonic() - self._read_at > TOKEN_SECONDS and self._info.token and TOKEN.exists():
            self._use(log_in(self._settings))

    def _use(self, info: kopf.ConnectionInfo) -> None:
        """Use new credentials in the session that is open, so that no watch is cut by a new token."""
        self._read_at = time.monotonic()
        same_server = dataclasses.replace(info, token=self._info.token) == self._info
        self._info = info
        if self._context is None:
            return
        if same_server:
            self._context.session.headers.update(info.as_http_headers())
        else:
            self._closing = asyncio.create_task(self._context.close())  # its streams end, and go on in a new session
            self._context = None

    async def close(self) -> None:
        """Close the session with everything that still runs in it."""
        if self._closing is not None:
            await self._closing
        if self._context is not None:
            await self._context.close()
