"""Makes a pod's volumes and keeps them current: on every change of a source, and when a token grows old."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Final

from mlserve_local.client import ApiError
from mlserve_local.node.context import PodContext
from mlserve_local.node.images import ADDRESS_BLIND, repository_name
from mlserve_local.node.paths import address_rewriter
from mlserve_local.node.volumes import File, Payload, payload, plain_directory, projected_kinds, references, write
from mlserve_local.objects import Obj, Resource, moment_of, name_of, uid_of

log = logging.getLogger(__name__)
_SERVICE_ACCOUNTS: Final = Resource("v1", "serviceaccounts", "ServiceAccount")


class Mounts:
    """The volumes of one pod."""

    def __init__(self, context: PodContext) -> None:
        self._context = context
        self._token: str | None = None
        self.refresh_at: float | None = None
        """Seconds since the epoch at which the service account's token should be renewed."""

    async def sync(self) -> None:
        """Bring every volume up to date. Raises ConfigError for a missing source, ApiError for a failing look-up."""
        context = self._context
        for kind, name in references(context.pod):
            await context.node.ensure(context.namespace, kind, name)
        await self._renew_token()
        settings = context.node.settings
        lookup = context.node.lookup(context.namespace)
        for volume in context.pod["spec"].get("volumes") or ():
            if projected_kinds(volume):
                directory = context.directory / "volumes" / volume["name"]
                pod = {**context.pod, "status": {"podIP": context.pod_ip, "hostIP": settings.host_ip}}
                files = payload(volume, pod, lookup, self._token, settings.allocatable())
                write(directory, self._localised(files))
            else:
                claims = settings.data_dir / "claims"
                directory = plain_directory(volume, context.namespace, context.directory, claims)
            context.volumes[volume["name"]] = Path(directory)

    def _localised(self, files: Payload) -> Payload:
        """Put the pod's address into the configuration of programs that cannot take it from their environment."""
        images = {repository_name(c["image"]) for c in self._context.pod["spec"]["containers"]}
        if not images & ADDRESS_BLIND:
            return files
        rewrite = address_rewriter(self._context.pod_ip, loopback=True)
        return {
            path: File(
                rewrite(file.content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape"), file.mode
            )
            for path, file in files.items()
        }

    async def _renew_token(self) -> None:
        source = _token_source(self._context.pod)
        if source is None or (self.refresh_at is not None and time.time() < self.refresh_at):
            return
        context, seconds = self._context, int(source.get("expirationSeconds") or 3600)
        pod = context.pod
        body: Obj = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [source["audience"]] if source.get("audience") else [],
                "expirationSeconds": seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name_of(pod), "uid": uid_of(pod)},
            },
        }
        account = pod["spec"].get("serviceAccountName") or "default"
        try:
            path = _SERVICE_ACCOUNTS.path(context.namespace, account, "token")
            status = (await context.node.client.request("POST", path, body))["status"]
        except ApiError as error:
            if error.code not in (404, 405, 501):
                raise
            # A server without tokens knows no identities either: the pod speaks as the one admin.
            log.info("no token for service account %s/%s: %s", context.namespace, account, error)
            self.refresh_at = time.time() + seconds
            return
        self._token = status["token"]
        expires = moment_of(status.get("expirationTimestamp")) or time.time() + seconds
        self.refresh_at = time.time() + 0.8 * (expires - time.time())


def _token_source(pod: Obj) -> Obj | None:
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if "serviceAccountToken" in source:
                return dict(source["serviceAccountToken"])
    return None
