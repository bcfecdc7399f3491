"""Certificates of Secrets in every form: what the controller says of one is what a client of the real TLS sees."""

import contextlib
import re
import ssl
import time

import pytest
from certificate_forms import FORMS, HOST, Form, pem, root
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from controller.resources import Malformed, Secret, parse_object
from controller.translate.certificates import translate_certificate
from proxy.model.config import Certificate
from proxy.model.sensitive import Sensitive
from proxy.tls.certificates import CertificateStore
from proxy.tls.contexts import make_context
from proxy.tls.self_signed import self_signed

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def seen(certificate: Certificate, version: ssl.TLSVersion) -> bytes | None:
    """What a client that verifies everything gets for `HOST` from a store; None: no handshake."""
    store = CertificateStore()
    store.apply({"default/t": certificate}, {HOST: "default/t"}, None)
    base = make_context(self_signed(time.time()))
    base.sni_callback = store.choose
    trusted = pem(root(), root("RSA 2048")).decode()
    context = ssl.create_default_context(cadata=trusted)
    context.minimum_version = context.maximum_version = version
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=HOST)
    server = base.wrap_bio(to_server, to_client, server_side=True)
    try:
        for _ in range(4):
            for side in (client, server):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
    except ssl.SSLError:
        return None
    return client.getpeercert(binary_form=True)


def served(certificate: Certificate) -> bool:
    return all(seen(certificate, version) for version in VERSIONS)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if "DSA 2048" in name.split(" in ") else ()) for name in FORMS]
)
def test_form_is_served_or_refused_as_openssl_would(name: str) -> None:
    form = FORMS[name]()
    record = parse_object(form.secret())
    if not form.sentence:
        assert isinstance(record, Secret)
        certificate = translate_certificate(record)
        (leaf,) = x509.load_pem_x509_certificates(certificate.chain)[:1]
        assert [seen(certificate, version) for version in VERSIONS] == 2 * [leaf.public_bytes(serialization.Encoding.DER)]
        assert certificate.not_after == leaf.not_valid_after_utc.timestamp()
        return

    assert isinstance(record, Malformed)
    (problem,) = record.problems
    assert (problem.reason, problem.field) == ("SecretInvalid", form.field)
    assert re.fullmatch(re.escape(f"{form.field}: {form.sentence}").replace(r"\{\}", "[0-9]+"), problem.message)
    assert not served(Certificate(form.crt, Sensitive(form.key), 0.0))


@pytest.mark.parametrize(
    "name", ["joined without a line end", "CR line ends", "indented", "a BOM before the key", "a second key behind the certificate"]
)
def test_form_that_openssl_does_not_read_is_passed_on_as_it_was_read(name: str) -> None:
    form = FORMS[name]()
    record = parse_object(form.secret())

    assert isinstance(record, Secret)
    assert not served(Certificate(form.crt, Sensitive(form.key), 0.0))
    assert served(translate_certificate(record))


def test_what_is_passed_on_is_what_is_written_again() -> None:
    """Nothing that stands around the certificates and the key travels to the proxy."""
    form = FORMS["a second key before the certificate"]()
    record = parse_object(Form(form.crt, form.crt + form.key).secret())
    usual = FORMS["as usual"]()

    assert isinstance(record, Malformed)  # the first key is another's
    record = parse_object(form.secret())
    assert isinstance(record, Secret)
    assert (record.chain, record.key.data) == (usual.crt, usual.key)
