"""The proxy's settings: every flag, its variable, its default, and what is refused with a sentence."""

import dataclasses
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from proxy.platform.cpu_quota import available_cpus, cpu_limit
from proxy.settings import Address, Settings, options, parse_address, parse_duration, settings_from


def parse(*arguments: str, env: Mapping[str, str] | None = None) -> Settings:
    found: list[Settings] = []

    @click.command(context_settings={"auto_envvar_prefix": "SLUICE"})
    @options
    def command(**values: object) -> None:
        found.append(settings_from(values))

    result = CliRunner().invoke(command, arguments, env=env)
    if not found:
        raise ValueError(result.output)
    return found[0]


def test_settings_defaults_of_flags_are_those_of_the_class() -> None:
    assert parse("--workers", "1") == Settings()


def test_settings_every_field_has_a_flag_and_a_variable() -> None:
    @click.command(context_settings={"auto_envvar_prefix": "SLUICE"})
    @options
    def command(**_: object) -> None: ...

    text = CliRunner().invoke(command, ["--help"], terminal_width=200).output

    fields = [field.name for field in dataclasses.fields(Settings)]
    assert [name for name in fields if "--" + name.replace("_", "-") not in text] == []
    assert [name for name in fields if f"SLUICE_{name.upper()}" not in text] == []


def test_settings_flags_beat_variables() -> None:
    settings = parse("--drain-time", "1m30s", env={"SLUICE_DRAIN_TIME": "10s", "SLUICE_HTTPS": "[::1]:0", "SLUICE_STRICT_SNI": "1"})

    assert (settings.drain_time, settings.https, settings.strict_sni) == (90.0, Address("::1", 0), True)


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("1s", 1.0), ("32767s", 32767.0)])
def test_settings_tcp_keepalive_takes_what_the_kernel_takes(text: str, seconds: float) -> None:
    assert parse("--tcp-keepalive", text).tcp_keepalive == seconds


@pytest.mark.parametrize("text", ["500ms", "32768s", "10h"])
def test_settings_tcp_keepalive_beyond_the_kernels_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="1s to 32767s"):
        parse("--tcp-keepalive", text)


def test_settings_trusted_proxies_are_networks() -> None:
    settings = parse("--trusted-proxies", "10.0.0.1/8, fd00::/8,192.0.2.7")

    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("192.0.2.7/32"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--http", "8080"), "'8080' is no address; host:port, :port or [v6]:port with a port from 0 to 65535 would be accepted."),
        (("--http", ":65536"), "port from 0 to 65535"),
        (("--http", "::1:80"), "an IPv6 address stands in brackets: [::1]:80."),
        (("--grace", "5"), "'5' is no duration; a number with a unit would be accepted, as in 500ms, 30s or 1h30m."),
        (("--grace", "-5s"), "is no duration"),
        (("--workers", "0"), "auto or a number from 1 to 256 would be accepted."),
        (("--trusted-proxies", "10.0.0.0/33"), "'10.0.0.0/33' is no network; CIDRs separated by commas"),
        (("--grace", "6s"), "--grace is 6s; more than --drain-delay and --close-wait together, 7s, would be accepted."),
    ],
)
def test_settings_refused_value_is_answered_with_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match="Error") as caught:
        parse(*arguments)

    assert sentence in " ".join(str(caught.value).split())


@pytest.mark.parametrize(
    ("text", "address"),
    [(":80", Address("", 80)), ("[::]:443", Address("::", 443)), ("localhost:0", Address("localhost", 0))],
)
def test_parse_address_reads_all_forms(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("500ms", 0.5), ("1.5h", 5400), ("1h2m3s", 3723), ("10us", 1e-5)])
def test_parse_duration_reads_what_kubernetes_writes(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


def test_address_of_ipv6_is_shown_in_brackets() -> None:
    assert str(Address("::1", 80)) == "[::1]:80"


def _cgroup(root: Path, own: str, quotas: Mapping[str, str]) -> float | None:
    for relative, text in quotas.items():
        file = root / relative
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    membership = root / "membership"
    membership.write_text(own)
    return cpu_limit(root, membership)


@pytest.mark.parametrize(
    ("quotas", "limit"),
    [
        ({}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "400000 100000", "pods/one/cpu.max": "max 100000", "pods/cpu.max": "200000 100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "nonsense"}, None),
    ],
)
def test_cgroup_tightest_quota_of_the_ancestors_counts(tmp_path: Path, quotas: Mapping[str, str], limit: float | None) -> None:
    assert _cgroup(tmp_path, "0::/pods/one\n", quotas) == limit


def test_workers_auto_is_at_least_one() -> None:
    assert parse("--workers", "auto").workers == available_cpus() >= 1
