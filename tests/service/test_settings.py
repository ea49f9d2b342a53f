"""Settings: the environment and overrides come in, one checked value goes out."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import Settings, SettingsError, read_settings


def test_the_default_listens_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    settings = read_settings()
    assert settings.host == "127.0.0.1"
    assert settings.is_loopback
    assert settings.data_dir == Path("/somewhere/undercurrent")


def test_the_environment_is_read_and_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERCURRENT_PORT", "9000")
    monkeypatch.setenv("UNDERCURRENT_HZ", "8")
    monkeypatch.setenv("UNDERCURRENT_LIMITS__MAX_PIXELS", "1000")
    settings = read_settings(port=9001, host=None)
    assert (settings.port, settings.hz, settings.limits.max_pixels, settings.host) == (9001, 8.0, 1000, "127.0.0.1")


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "70000"), ("WORKERS", "0"), ("HZ", "-1"), ("DEVICE", "tpu"), ("LIMITS__MAX_STREAMS", "x")]
)
def test_a_bad_value_is_refused_by_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"UNDERCURRENT_{name}", value)
    with pytest.raises(SettingsError, match=rf"UNDERCURRENT_{name}: .*got '{value}'"):
        read_settings()


def test_lists_within_a_setting_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ALLOWED_DOMAINS", '["example.org"]'), ("ALLOWED_GROUPS", '["a", "b"]'), ("DEFAULT_SCOPES", '["feeds"]')):
        monkeypatch.setenv(f"UNDERCURRENT_OIDC__{name}", value)
    terms = read_settings().oidc
    assert (terms.allowed_domains, terms.allowed_groups, terms.default_scopes) == (("example.org",), ("a", "b"), ("feeds",))
    monkeypatch.setenv("UNDERCURRENT_REVIEWS__VERDICTS", '["no_evidence"]')
    assert read_settings().reviews.verdicts == ("no_evidence",)
    monkeypatch.setenv("UNDERCURRENT_OIDC__ALLOWED_DOMAINS", "example.org")
    with pytest.raises(SettingsError, match=r"UNDERCURRENT_OIDC__ALLOWED_DOMAINS: .*JSON"):
        read_settings()


@pytest.mark.parametrize(("name", "value"), [("ALLOWED_HOSTS", "films.example"), ("OIDC", '{"client_secret": "hunter2"')])
def test_what_is_no_json_is_refused_by_its_variable_and_not_repeated(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"UNDERCURRENT_{name}", value)
    with pytest.raises(
        SettingsError, match=rf'UNDERCURRENT_{name} cannot be read\. Expected JSON, as \["one", "two"\] for a list; got E'
    ) as refused:
        read_settings()
    assert value not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("OIDC__CLIENT_SECRE", "hunter2"), ("OIDC", '{"client_secret": ["hunter2"]}'), ("OIDC", '"hunter2"'), ("OIDC", '["hunter2"]')],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"UNDERCURRENT_{name}", value)
    with pytest.raises(SettingsError, match="UNDERCURRENT_OIDC") as refused:
        read_settings()
    assert "hunter2" not in f"{refused.value} {refused.value.__cause__}"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("::1", True), ("127.5.5.5", True), ("0.0.0.0", False), ("::", False), ("example.org", False)],
)
def test_what_only_this_machine_can_reach(host: str, loopback: bool) -> None:
    assert Settings(host=host).is_loopback is loopback
