"""Which certificate a host gets, what changes do to it, and real handshakes against one base context."""

import contextlib
import hashlib
import logging
import ssl
import time

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from proxy.model.config import Certificate
from proxy.model.sensitive import Sensitive
from proxy.tls.certificates import CertificateStore
from proxy.tls.contexts import UnusableCertificateError, make_context
from proxy.tls.self_signed import self_signed

AUTHORITY = trustme.CA()


def issue(*names: str) -> Certificate:
    issued = AUTHORITY.issue_cert(*names)
    return Certificate(b"".join(blob.bytes() for blob in issued.cert_chain_pems), Sensitive(issued.private_key_pem.bytes()), 2e9)


def fingerprint(certificate: Certificate) -> bytes:
    """As `openssl x509 -fingerprint -sha256` has it."""
    return x509.load_pem_x509_certificates(certificate.chain)[0].fingerprint(hashes.SHA256())


A, B, WILD = issue("a.example.com"), issue("b.example.com"), issue("*.example.com")
BROKEN = Certificate(A.chain, B.key, 2e9)
CERTIFICATES = {"ns/a": A, "ns/wild": WILD}
HOSTS = {"a.example.com": "ns/a", "*.example.com": "ns/wild"}


def store(*, strict: bool = False, default: str | None = None) -> CertificateStore:
    made = CertificateStore(strict_sni=strict)
    made.apply(CERTIFICATES, HOSTS, default)
    return made


class Server:
    """A base context with a store behind it, and clients in memory."""

    def __init__(self, certificates: CertificateStore) -> None:
        self.base = make_context(self_signed(time.time()))
        self.base.sni_callback = certificates.choose

    def names(self, name: str | None, **limits: ssl.TLSVersion) -> tuple[str, ...]:
        """The names in the certificate that a client gets for a server name."""
        return self.handshake(name, **limits)[1]

    def handshake(
        self, name: str | None, session: ssl.SSLSession | None = None, **limits: ssl.TLSVersion
    ) -> tuple[ssl.SSLObject, tuple[str, ...]]:
        context = ssl.create_default_context()
        context.check_hostname = False
        AUTHORITY.configure_trust(context)
        context.verify_mode = ssl.CERT_OPTIONAL if name else ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        for limit, version in limits.items():
            setattr(context, limit, version)
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(to_client, to_server, server_hostname=name, session=session)
        server = self.base.wrap_bio(to_server, to_client, server_side=True)
        for _ in range(3):
            for side in (client, server):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
        assert client.selected_alpn_protocol() == "http/1.1"
        found = client.getpeercert() or {}
        return client, tuple(str(value) for _, value in found.get("subjectAltName", ()))


@pytest.mark.parametrize(
    ("host", "certificate"),
    [
        ("a.example.com", A),
        ("b.example.com", WILD),
        ("x.b.example.com", None),
        ("example.com", None),
        ("other.test", None),
        ("", None),
        (None, None),
    ],
)
def test_fingerprint_is_of_exact_then_wildcard_of_one_label_then_the_one_made_at_start(
    host: str | None, certificate: Certificate | None
) -> None:
    assert store().fingerprint(host) == (fingerprint(certificate) if certificate is not None else b"")


def test_fingerprint_of_unknown_hosts_is_that_of_the_default_certificate() -> None:
    assert store(default="ns/a").fingerprint("other.test") == fingerprint(A)


@pytest.mark.parametrize(
    "chain",
    [A.chain + WILD.chain, b"subject=a\n" + A.chain.replace(b"\n", b"\r\n"), A.chain + b"nonsense"],
    ids=["another chain", "text and line ends", "behind it"],
)
def test_fingerprint_is_of_the_leaf_however_it_is_laid_out(chain: bytes) -> None:
    certificates = CertificateStore()
    certificates.apply({"ns/a": Certificate(chain, A.key, 2e9)}, HOSTS, None)

    assert certificates.fingerprint("a.example.com") == fingerprint(A)


@pytest.mark.parametrize("inside", [b"A", b"\xff"], ids=["no base64", "no ASCII"])
def test_fingerprint_of_what_only_looks_like_a_certificate_is_its_own(inside: bytes) -> None:
    chain = b"-----BEGIN CERTIFICATE-----\n%b\n-----END CERTIFICATE-----\n" % inside
    certificates = CertificateStore()
    certificates.apply({"ns/a": Certificate(chain, A.key, 2e9)}, HOSTS, None)

    assert certificates.fingerprint("a.example.com") == hashlib.sha256(chain).digest()


@pytest.mark.parametrize("chain", [b"", b"nonsense", A.chain[:100]], ids=["nothing", "nonsense", "half"])
def test_fingerprint_of_what_is_no_certificate_is_its_own(chain: bytes) -> None:
    certificates = CertificateStore()
    certificates.apply(
        {"ns/a": Certificate(chain, A.key, 2e9), "ns/b": Certificate(chain + b"!", A.key, 2e9)}, {**HOSTS, "b.test": "ns/b"}, None
    )

    assert len({certificates.fingerprint(host) for host in ("a.example.com", "b.test", "other.test")}) == 3


def test_fingerprint_of_a_certificate_that_does_not_load_is_what_stands_in_for_it() -> None:
    certificates = store(default="ns/wild")
    certificates.context_for("a.example.com")
    other = Certificate(issue("a.example.com").chain, B.key, 2e9)
    certificates.apply({**CERTIFICATES, "ns/a": other, "ns/never": other}, {**HOSTS, "never.test": "ns/never"}, "ns/wild")
    untried = [certificates.fingerprint(host) for host in ("a.example.com", "never.test")]
    for host in ("a.example.com", "never.test"):
        certificates.context_for(host)

    assert untried == [fingerprint(other)] * 2
    assert [certificates.fingerprint(host) for host in ("a.example.com", "never.test")] == [fingerprint(A), fingerprint(WILD)]


def test_what_a_host_asks_of_tls_is_exact_then_wildcard_of_one_label_then_nothing() -> None:
    certificates = CertificateStore()
    exact, wild = frozenset({"exact"}), frozenset({"wild"})
    certificates.apply(CERTIFICATES, HOSTS, None, {"a.example.com": exact, "*.example.com": wild})

    hosts = ("a.example.com", "b.example.com", "x.b.example.com", "example.com", "", None)
    assert [certificates.requirements_of(host) for host in hosts] == [exact, wild, *[frozenset()] * 4]
    certificates.apply(CERTIFICATES, HOSTS, None)
    assert certificates.requirements_of("a.example.com") == frozenset()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_handshake_gets_the_certificate_of_its_name(version: ssl.TLSVersion) -> None:
    server = Server(store())

    limits = {"maximum_version": version}
    assert server.names("a.example.com", **limits) == ("a.example.com",)
    assert server.names("b.example.com", **limits) == ("*.example.com",)


def test_handshake_below_tls_1_2_is_refused() -> None:
    server = Server(store())

    with pytest.warns(DeprecationWarning, match="TLSv1"), pytest.raises(ssl.SSLError):
        server.names("a.example.com", minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)


def test_handshake_without_name_gets_the_default() -> None:
    certificates = store(default="ns/a")

    assert certificates.context_for(None) is certificates.context_for("a.example.com")


def test_strict_sni_refuses_unknown_names_only() -> None:
    server = Server(store(strict=True))

    assert server.names("a.example.com") == ("a.example.com",)
    with pytest.raises(ssl.SSLError, match="CALLBACK_FAILED"):
        server.names("other.test")
    server.handshake(None)


def test_session_resumes_after_its_certificate_changed() -> None:
    certificates = store()
    server = Server(certificates)
    limits = {"maximum_version": ssl.TLSVersion.TLSv1_2}
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def visit(session: ssl.SSLSession | None) -> ssl.SSLObject:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(to_client, to_server, server_hostname="a.example.com", session=session)
        peer = server.base.wrap_bio(to_server, to_client, server_side=True)
        for _ in range(3):
            for side in (client, peer):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
        return client

    session = visit(None).session
    certificates.apply({**CERTIFICATES, "ns/a": issue("a.example.com")}, HOSTS, None)

    assert visit(session).session_reused
    assert server.names("a.example.com", **limits) == ("a.example.com",)


def test_apply_keeps_contexts_of_unchanged_certificates_and_shares_equal_ones() -> None:
    certificates = store()
    before = certificates.context_for("a.example.com")
    certificates.apply(
        {"ns/a": Certificate(A.chain, Sensitive(A.key.data), 2e9), "ns/same": A}, {**HOSTS, "s.test": "ns/same"}, None
    )

    assert certificates.context_for("a.example.com") is before
    assert certificates.context_for("s.test") is before
    assert certificates.context_for("b.example.com") is None


def test_certificate_that_does_not_load_keeps_the_previous_one_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    certificates = store()
    before = certificates.context_for("a.example.com")
    for _ in range(2):
        certificates.apply({**CERTIFICATES, "ns/a": BROKEN}, HOSTS, None)
        certificates.apply({**CERTIFICATES, "ns/a": Certificate(b"nonsense", A.key, 2e9)}, HOSTS, None)
    with caplog.at_level(logging.ERROR):
        assert certificates.context_for("a.example.com") is before

    assert "certificate=ns/a" in caplog.text
    assert "the previous certificate stays" in caplog.text
    assert "PRIVATE" not in caplog.text


def test_certificate_that_never_loaded_falls_back_to_the_default() -> None:
    certificates = CertificateStore()
    certificates.apply({"ns/bad": BROKEN, "ns/a": A}, {"bad.test": "ns/bad"}, "ns/a")

    assert certificates.context_for("bad.test") is not None
    assert certificates.context_for("bad.test") is certificates.context_for("any.test")
    assert certificates.fingerprint("bad.test") == fingerprint(A)


def test_stand_ins_are_of_certificates_that_do_not_load_until_others_come() -> None:
    certificates = store()
    certificates.context_for("a.example.com")
    worse = Certificate(A.chain, B.key, 3e9)
    certificates.apply({**CERTIFICATES, "ns/a": worse, "ns/new": worse}, {**HOSTS, "new.test": "ns/new"}, None)
    untried = certificates.stand_ins()
    for host in ("a.example.com", "new.test", "b.example.com"):
        certificates.context_for(host)
    tried = certificates.stand_ins()
    certificates.apply({**CERTIFICATES, "ns/a": worse, "ns/new": B}, {**HOSTS, "new.test": "ns/new"}, None)
    certificates.context_for("new.test")

    assert untried == {}
    assert tried == {"ns/a": A.not_after, "ns/new": 0.0}
    assert certificates.stand_ins() == {"ns/a": A.not_after}


def test_certificates_that_nobody_asked_for_do_not_pile_up() -> None:
    certificates = store()
    for _ in range(5):
        certificates.apply({**CERTIFICATES, "ns/a": issue("a.example.com")}, HOSTS, None)

    depth, slot = 0, certificates._loaded["ns/a"]
    while slot.previous is not None:
        depth, slot = depth + 1, slot.previous
    assert depth <= 2


@pytest.mark.parametrize("certificate", [BROKEN, Certificate(b"", Sensitive(b""), 0)])
def test_context_of_an_unusable_certificate_is_refused_without_showing_the_key(certificate: Certificate) -> None:
    with pytest.raises(UnusableCertificateError) as caught:
        make_context(certificate)

    assert "PRIVATE" not in str(caught.value)


def test_context_of_an_encrypted_key_is_refused_without_asking_the_terminal() -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(A.key.data, None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    with pytest.raises(UnusableCertificateError):
        make_context(Certificate(A.chain, Sensitive(encrypted), 2e9))


def test_five_thousand_certificates_are_taken_without_loading_one_that_nobody_asks_for() -> None:
    certificates = CertificateStore()
    many = {f"ns/{number}": Certificate(A.chain + b"\n" * number, A.key, 2e9) for number in range(5000)}
    certificates.apply(many, {f"h{number}.test": f"ns/{number}" for number in range(5000)}, None)
    taken = len(certificates._contexts)
    kept = [certificates.context_for(f"h{number}.test") for number in (0, 4999, 4999)]

    assert taken == 0
    assert len(certificates._contexts) == len(set(kept)) == 2
