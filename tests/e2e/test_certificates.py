"""Certificates end to end: what stands in a Secret, what is said of it, what a client of TLS sees, and what the metric tells."""

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from certificate_forms import FORMS, Form, pem, root
from certificate_forms import HOST as HOST_OF_FORMS
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from demo import sluice, write_whole
from e2e.harness import HOST, Hub, backend, config, issue, proxy, trusting
from e2e.standalone import FREE, WAIT, Running
from trustme import CA

from proxy.model.config import Certificate, ProxyConfig

EXPIRY = "sluice_tls_certificate_expiry_timestamp_seconds"


def object_of(hosts: Mapping[str, str]) -> str:
    """An Ingress with these hosts, each with its Secret."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    backend_of = {"service": {"name": "s", "port": {"number": 80}}}
    paths = {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend_of}]}
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "i"},
        "spec": {
            "tls": [{"hosts": [host], "secretName": secret} for host, secret in hosts.items()],
            "rules": [{"host": host, "http": paths} for host in hosts],
        },
    }
    return json.dumps({"kind": "List", "items": [service, ingress]})


def leaf_of(form: Form) -> bytes:
    leaf = x509.load_pem_x509_certificates(form.crt)[0]
    return leaf.public_bytes(serialization.Encoding.DER)


def ends(der: bytes) -> float:
    return x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()


async def seen(port: int, name: str) -> tuple[bytes, bool]:
    """The leaf that a client gets for a name, and whether it trusts the chain."""
    for verify in (ssl.CERT_REQUIRED, ssl.CERT_NONE):
        context = ssl.create_default_context(cadata=pem(root(), root("RSA 2048")).decode())
        context.check_hostname = False
        context.verify_mode = verify
        try:
            async with asyncio.timeout(WAIT):
                _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        except ssl.SSLCertVerificationError:
            continue
        connection = writer.get_extra_info("ssl_object")
        writer.transport.abort()
        return connection.getpeercert(True), verify is ssl.CERT_REQUIRED
    raise AssertionError(name)


async def expiries(running: Running) -> dict[tuple[str, str], float]:
    """Host and Secret of each series, and its value."""
    _, writer = reader_writer = await asyncio.open_connection("127.0.0.1", running.admin)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(WAIT):
        text = (await reader_writer[0].read()).decode()
    writer.close()
    return series(text)


def series(text: str) -> dict[tuple[str, str], float]:
    found = {}
    for line in text.splitlines():
        if line.startswith(EXPIRY + "{"):
            labels = dict(part.split("=") for part in line[line.index("{") + 1 : line.index("}")].replace('"', "").split(","))
            found[labels["host"], labels["secret"]] = float(line.rsplit(" ", 1)[1])
    return found


@asynccontextmanager
async def running(folder: Path, *arguments: str) -> AsyncIterator[Running]:
    with sluice(folder, [*FREE, *arguments]) as (process, listening):
        yield Running(folder, process, listening)


def write_secret(folder: Path, name: str, form: Form) -> None:
    write_whole(folder / f"{name}.json", json.dumps(form.secret(name)))


async def test_every_form_is_shown_on_the_wire_if_and_only_if_nothing_is_said_of_it(tmp_path: Path) -> None:
    forms = {f"form-{number}": made() for number, made in enumerate(FORMS.values())}
    hosts = {f"{name}.test": name for name in forms}
    write_whole(tmp_path / "objects.json", object_of(hosts))
    for name, form in forms.items():
        write_secret(tmp_path, name, form)
    command = [sys.executable, "-P", "-m", "controller.cli", "lint", str(tmp_path), "--format", "json"]
    lint = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False, timeout=60)
    async with running(tmp_path) as proxy:
        problems = await asyncio.to_thread(proxy.shows, "/problems")
        told = {one["name"]: one["field"] for one in problems if one["kind"] == "Secret"}
        wire = {name: await seen(proxy.https, f"{name}.test") for name in forms}
        made_at_start, _ = await seen(proxy.https, "nobody.test")
        measured = await expiries(proxy)

    good = {name for name, form in forms.items() if not form.sentence}
    assert told == {name: form.field for name, form in forms.items() if form.sentence}
    assert {one["name"]: one["field"] for one in json.loads(lint.stdout) if one["kind"] == "Secret"} == told
    assert lint.returncode == 1
    assert wire == {name: (leaf_of(form), True) if name in good else (made_at_start, False) for name, form in forms.items()}
    assert measured == {(f"{name}.test", f"default/{name}"): ends(leaf_of(forms[name])) for name in good}


@pytest.mark.parametrize("name", ["half a certificate behind", "RSA 1024", "signed with SHA-1 in the chain", "another's key"])
async def test_renewal_of_a_form_that_nobody_can_use_keeps_the_certificate_and_says_so(name: str, tmp_path: Path) -> None:
    """Of a host's Secret and of the default one alike; what comes after it is served again."""
    first, bad, last = FORMS["joined without a line end"](), FORMS[name](), FORMS["P-384"]()
    write_whole(tmp_path / "objects.json", object_of({"a.test": "t"}))
    write_secret(tmp_path, "t", first)
    async with running(tmp_path, "--default-certificate", "default/t") as proxy:
        before = [await seen(proxy.https, host) for host in ("a.test", "nobody.test")]
        write_secret(tmp_path, "t", bad)
        problems = await proxy.until_shows("/problems", lambda found: any("last good" in one["message"] for one in found))
        kept = [await seen(proxy.https, host) for host in ("a.test", "nobody.test")]
        measured = await expiries(proxy)
        write_secret(tmp_path, "t", last)
        await proxy.until_shows("/problems", lambda found: not any("last good" in one["message"] for one in found))
        after = [await seen(proxy.https, host) for host in ("a.test", "nobody.test")]

    assert before == kept == [(leaf_of(first), True)] * 2
    assert after == [(leaf_of(last), True)] * 2
    assert measured == {(host, "default/t"): ends(leaf_of(first)) for host in ("a.test", "*")}
    message = 'Secret "default/t" cannot be used, its last good certificate stays: ' + f"{bad.field}: {bad.sentence}"
    assert {(one["kind"], one["field"], one["message"]) for one in problems if "last good" in one["message"]} == {
        ("Ingress", "spec.tls[0].secretName", f"spec.tls[0].secretName: {message}"),
        ("Secret", "--default-certificate", f"--default-certificate: {message}"),
    }


async def test_default_certificate_that_nobody_can_use_is_not_shown_nor_measured_until_it_is_mended(tmp_path: Path) -> None:
    bad, good = FORMS["secp256k1"](), FORMS["indented"]()
    write_secret(tmp_path, "t", bad)
    async with running(tmp_path, "--default-certificate", "default/t") as proxy:
        before = (await seen(proxy.https, "nobody.test"), await expiries(proxy))
        told = [one["message"] for one in await asyncio.to_thread(proxy.shows, "/problems") if one["field"].startswith("--")]
        write_secret(tmp_path, "t", good)
        await proxy.until_shows("/problems", lambda found: all(one["note"] for one in found))
        after = (await seen(proxy.https, "nobody.test"), await expiries(proxy))

    message = f'Secret "default/t" cannot be used, one made at start is served: {bad.field}: {bad.sentence}'
    assert told == [f"--default-certificate: {message}"]
    assert (before[0][1], before[1]) == (False, {})
    assert after == ((leaf_of(good), True), {("*", "default/t"): ends(leaf_of(good))})


async def test_entry_without_hosts_is_for_the_hosts_of_the_rules_that_its_certificate_is_for(tmp_path: Path) -> None:
    """Their requests go to https, where their certificate is shown; those of others do not, and the object is told whose."""
    made = json.loads(object_of({HOST_OF_FORMS: "t", "b.example.com": "t", "": "t"}))
    ingress = made["items"][1]
    ingress["spec"]["tls"] = [{"secretName": "t"}]
    ingress["spec"]["rules"][2]["http"]["paths"][0]["path"] = "/any"
    del ingress["spec"]["rules"][2]["host"]
    write_whole(tmp_path / "objects.json", json.dumps(made))
    form = FORMS["as usual"]()
    write_secret(tmp_path, "t", form)
    async with running(tmp_path) as proxy:
        found = {}
        for host, path in ((HOST_OF_FORMS, "/"), ("b.example.com", "/"), ("nobody.test", "/any"), (HOST_OF_FORMS, "/any")):
            found[host, path] = await proxy.ask(host, path, secure=False)
        shown = [await seen(proxy.https, host) for host in (HOST_OF_FORMS, "b.example.com")]
        (problem,) = [one for one in await asyncio.to_thread(proxy.shows, "/problems") if not one["note"]]

    # 503: it went to the Service, which has no endpoint.
    assert list(found.values()) == [308, 503, 503, 308]
    assert [trusted for _, trusted in shown] == [True, False]
    assert shown[0][0] == leaf_of(form)
    assert problem["field"] == "spec.tls[0].secretName"
    assert "it is not served for b.example.com of the rules" in problem["message"]


async def test_expiry_is_of_what_a_worker_could_load(tmp_path: Path) -> None:
    """Whatever the controller let pass: the metric tells nothing of a certificate that OpenSSL does not take."""
    hub = Hub(tmp_path / "control.sock")
    await hub.start()
    authority = CA()
    good, other = issue(authority, HOST), issue(authority, HOST)
    broken = Certificate(good.chain, other.key, good.not_after + 1000)
    try:
        async with backend() as port, proxy(hub, "--workers", "1") as one:
            hub.publish(_with(config(port, good), "ns/new", None))
            await one.ready()
            await _visit(one.https, authority)
            hub.publish(_with(config(port, broken), "ns/new", broken))
            await hub.acknowledged()
            untried = series((await one.ask("/metrics"))[1])
            await _visit(one.https, authority)
            await seen(one.https, "new.test")
            tried = series((await one.ask("/metrics"))[1])
    finally:
        await hub.stop()

    assert set(untried) == {(HOST, "default/shop-tls"), ("new.test", "ns/new"), ("*", "ns/new")}
    assert tried == {(HOST, "default/shop-tls"): pytest.approx(good.not_after)}


def _with(made: ProxyConfig, key: str, certificate: Certificate | None) -> ProxyConfig:
    """Add a host, and a default certificate, of one more Secret."""
    if certificate is None:
        return made
    return ProxyConfig(
        made.routes, made.upstreams, {**made.certificates, key: certificate}, {**made.tls_hosts, "new.test": key}, key
    )


async def _visit(port: int, authority: CA) -> None:
    async with asyncio.timeout(WAIT):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(authority), server_hostname=HOST)
    writer.transport.abort()
