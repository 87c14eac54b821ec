"""Node and network against an API server as strangers run them: HTTPS, a private authority, a client certificate."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import json
import os
import ssl
import threading
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mlserve_local.client import ApiClient, ApiError, ClusterConfig
from mlserve_local.objects import NODES
from mlserve_local.up import UpOptions, down, up


class Authority:
    """A certificate authority for one test."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("authority", self.key, issuer=None)

    def _sign(self, name, key, issuer="authority"):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = subject if issuer is None else self.certificate.subject
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(signer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
        )
        return builder.sign(self.key, hashes.SHA256())

    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def pair(self, name):
        """(certificate, key) in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._sign(name, key).public_bytes(serialization.Encoding.PEM), private


class TlsFront:
    """Ends TLS in front of the API server and lets in only who has a certificate of the authority."""

    def __init__(self, authority, directory, port):
        certificate, key = authority.pair("server")
        files = {"ca.pem": authority.pem(), "server.pem": certificate + key}
        for name, content in files.items():
            (directory / name).write_bytes(content)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(directory / "server.pem")
        self._context.load_verify_locations(directory / "ca.pem")
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._target, self._loop = port, asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.port = 0

    async def _relay(self, reader, writer):
        with contextlib.suppress(OSError):
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._target)
            pumps = [_pump(reader, upstream_writer), _pump(upstream_reader, writer)]
            await asyncio.gather(*pumps)

    async def _serve(self):
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        with contextlib.suppress(asyncio.CancelledError):
            await server.serve_forever()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._main = self._loop.create_task(self._serve())
        self._loop.run_until_complete(self._main)
        rest = asyncio.all_tasks(self._loop)
        for task in rest:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        self._loop.close()

    def __enter__(self):
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(10)


async def _pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (OSError, ssl.SSLError):
        pass
    finally:
        writer.close()


def kubeconfig(path, server, authority, user):
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(authority.pem()).decode()}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [{"name": "x", "cluster": cluster}],
        "users": [{"name": "x", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def front(cluster, tmp_path):
    authority = Authority()
    with TlsFront(authority, tmp_path, cluster.cluster.settings.api_port) as front:
        certificate, key = authority.pair("admin")
        user = {
            "client-certificate-data": base64.b64encode(certificate).decode(),
            "client-key-data": base64.b64encode(key).decode(),
        }
        server = f"https://127.0.0.1:{front.port}"
        yield {
            "good": kubeconfig(tmp_path / "good", server, authority, user),
            "nobody": kubeconfig(tmp_path / "nobody", server, authority, {}),
            "stranger": kubeconfig(tmp_path / "stranger", server, Authority(), user),
        }


async def test_a_client_certificate_is_shown_and_the_server_is_verified(front):
    async with ApiClient(ClusterConfig.load(front["good"])) as client:
        assert (await client.request("GET", NODES.path()))["kind"] == "NodeList"
        with pytest.raises(ApiError, match="NotFound"):
            await client.get(NODES, "", "no-such-node")
    for other in ("nobody", "stranger"):
        async with ApiClient(ClusterConfig.load(front[other])) as client:
            with pytest.raises((aiohttp.ClientError, OSError)):
                await client.request("GET", NODES.path())


def test_a_node_joins_over_tls_and_serves_its_kubelet_by_https(front, cluster, namespace, tmp_path):
    data_dir = tmp_path / "joined"
    try:
        joined = up(
            UpOptions(
                data_dir=data_dir, kubeconfig=front["good"], operator=False, crds=tmp_path, images=("shell=/bin/sh",)
            )
        )
        name = joined.settings.node_name
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "labels": {"app": "p"}},
            "spec": {
                "nodeName": name,
                "terminationGracePeriodSeconds": 1,
                "containers": [
                    {
                        "name": "main",
                        "image": "shell",
                        "command": ["sh", "-c", "cat $KUBECONFIG; sleep 1000"],
                        "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
                    }
                ],
            },
        }
        cluster.apply(pod, namespace=namespace)
        cluster.kubectl("wait", "pod/p", "-n", namespace, "--for=condition=Ready", "--timeout=30s")
        found = cluster.get("node", name)["status"]
        port = found["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE

        async def logs():
            url = f"https://127.0.0.1:{port}/containerLogs/{namespace}/p/main"
            async with aiohttp.ClientSession() as session, session.get(url, ssl=trusting) as response:
                return await response.text()

        text = asyncio.run(logs())
        assert json.loads((data_dir / "settings.json").read_text())["external_kubeconfig"] == str(front["good"])
        assert "server: https://127.0.0.1" in text
        cluster.kubectl("delete", "pod", "p", "-n", namespace)
    finally:
        down(data_dir)
        cluster.kubectl("delete", "node", "-l", f"kubernetes.io/hostname=mlserve-{os.uname().nodename.lower()}")
