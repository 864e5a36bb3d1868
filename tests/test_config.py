"""Configuration: where it is found, what overrides what, and what a wrong file is told."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from recovery import config, config_table
from recovery.config import ServerSettings, load
from recovery.errors import ConfigError
from recovery.initialise import InitRequest, render, write

MINIMAL = '[archive]\nroot = "file:///srv/rowback"\n\n[servers.shop]\nhost = "db"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rowback.toml"
    path.write_text(MINIMAL)
    return path


def refused(path: Path | None, environ: dict[str, str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


def test_defaults_and_the_only_server(file: Path) -> None:
    settings = load(file, {})
    assert settings.archive.tenant == "default"
    server = settings.server()
    assert (server.name, server.host, server.port, server.user) == ("shop", "db", 3306, "rowback")


def test_settings_are_frozen(file: Path) -> None:
    with pytest.raises(Exception, match="frozen"):
        load(file, {}).server().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prot = 3307", "line 6: unknown key `servers.shop.prot`"),
        ("port = 99999", "line 6: `servers.shop.port` should be less than or equal to 65535, not `99999`"),
        ('port = "many"', "line 6: `servers.shop.port` should be a valid integer"),
        ('password = "s3cret"', "line 6: a password doesn't belong into this file"),
        ("port =", "is not valid TOML: invalid value (line 6"),
        ("\n[server.crm]", "line 7: unknown key `server`"),
        ("\n[servers.Shop]", "the server's name `Shop` must be 1 to 63 of a-z"),
    ],
)
def test_mistakes_are_named_with_their_line(file: Path, text: str, expected: str) -> None:
    file.write_text(MINIMAL + text + "\n")
    error = refused(file)
    assert expected in error.message
    assert str(file) in error.message
    assert "s3cret" not in str(error)


def test_misspelt_keys_get_the_nearest_ones(file: Path) -> None:
    file.write_text(MINIMAL + "prot = 3307\n")
    assert "Did you mean `port`" in refused(file).hint


@pytest.mark.parametrize("root", ["/srv/rowback", "file://srv", "gs://bucket", "s3://", ""])
def test_roots_that_are_no_archive(file: Path, root: str) -> None:
    file.write_text(f'[archive]\nroot = "{root}"\n')
    assert "line 2: `archive.root` must be `file:///folder`" in refused(file).message


@pytest.mark.parametrize("tenant", ["..", "A", "a/b", ""])
def test_labels_that_would_not_be_object_names(file: Path, tenant: str) -> None:
    file.write_text(MINIMAL.replace("root", f'tenant = "{tenant}"\nroot'))
    assert "line 2: `archive.tenant` must be 1 to 63" in refused(file).message


def test_environment_overrides_each_value(file: Path) -> None:
    environ = {
        "ROWBACK_ARCHIVE__ROOT": "s3://bucket/prefix",
        "ROWBACK_ARCHIVE__S3__REGION": "eu-central-1",
        "ROWBACK_SERVERS__SHOP__PORT": "3307",
        "ROWBACK_SERVERS__SHOP__EXCLUDE": "shop.tmp_*, shop.cache",
        "ROWBACK_SERVERS__SHOP__INCLUDE": '["a,b.c"]',
        "ROWBACK_SERVERS__CRM__HOST": "crm",
    }
    settings = load(file, environ)
    assert (settings.archive.root, settings.archive.s3.region) == ("s3://bucket/prefix", "eu-central-1")
    server = settings.server("shop")
    assert (server.host, server.port, server.exclude, server.include) == (
        "db",
        3307,
        ("shop.tmp_*", "shop.cache"),
        ("a,b.c",),
    )
    assert settings.server("crm").host == "crm"


def test_environment_reaches_names_with_dashes(file: Path) -> None:
    file.write_text(MINIMAL.replace("shop", "shop-eu"))
    assert load(file, {"ROWBACK_SERVERS__SHOP_EU__PORT": "1"}).server("shop-eu").port == 1


def test_environment_alone_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("recovery.config_file.candidates", lambda: [tmp_path / "rowback.toml"])
    environ = {"ROWBACK_ARCHIVE__ROOT": "file:///x", "ROWBACK_SERVERS__SHOP__HOST": "db"}
    assert load(None, environ).server().host == "db"
    error = refused(None)
    assert error.message == "no rowback.toml was found"
    assert "rowback init" in error.hint


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("ROWBACK_SERVERS__SHOP__PROT", "1", "unknown key `servers.shop.prot`"),
        ("ROWBACK_SERVERS__SHOP__PORT", "x", "`servers.shop.port` should be a valid integer"),
        ("ROWBACK_ARCHVE__ROOT", "x", "unknown section `archve`"),
        ("ROWBACK_SERVERS__SHOP__INCLUDE", "[1", "is not a JSON array"),
    ],
)
def test_mistakes_in_variables_name_the_variable(file: Path, variable: str, value: str, expected: str) -> None:
    error = refused(file, {variable: value})
    assert expected in error.message
    assert f"`{variable}`" in error.message


def test_other_rowback_variables_are_left_alone(file: Path) -> None:
    load(file, {"ROWBACK_CACHE": "/x", "ROWBACK_SERVER": "shop"})


def test_order_of_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {}
    for name in ("given", "variable", "work", "user", "site"):
        places[name] = tmp_path / name / "rowback.toml"
        places[name].parent.mkdir()
        places[name].write_text(MINIMAL.replace('"db"', f'"{name}"'))
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "user")
    monkeypatch.setattr("platformdirs.site_config_path", lambda *_, **__: tmp_path / "site")
    environ = {"ROWBACK_CONFIG": str(places["variable"])}
    assert load(places["given"], environ).server().host == "given"
    assert load(None, environ).server().host == "variable"
    for name in ("work", "user", "site"):
        assert load(None, {}).server().host == name
        places[name].unlink()
    assert "--config names" in refused(places["site"]).message
    assert "ROWBACK_CONFIG names" in refused(None, {"ROWBACK_CONFIG": "/no/such"}).message


def test_choosing_a_server(file: Path) -> None:
    file.write_text(MINIMAL + "[servers.crm]\n")
    settings = load(file, {})
    with pytest.raises(ConfigError, match="several servers: `crm`, `shop`"):
        settings.server()
    with pytest.raises(ConfigError, match="no server `shopp`") as caught:
        settings.server("shopp")
    assert "Did you mean `shop`" in caught.value.hint


# --- passwords --------------------------------------------------------------------------------------------------------


def test_password_from_its_variable(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(MINIMAL + 'password_env = "SHOP_PASSWORD"\n')
    settings = load(file, {})
    monkeypatch.delenv("SHOP_PASSWORD", raising=False)
    with pytest.raises(ConfigError, match="`SHOP_PASSWORD` with the password of server `shop` is not set"):
        settings.server()
    assert settings.server_without_password().password.get_secret_value() == ""
    monkeypatch.setenv("SHOP_PASSWORD", "pässword ")
    server = settings.server()
    assert server.password.get_secret_value() == "pässword "
    assert "pässword" not in repr(server) + str(server) + repr(settings)


def test_password_from_a_file_beside_the_configuration(file: Path) -> None:
    file.write_text(MINIMAL + 'password_file = "secret"\n')
    with pytest.raises(ConfigError, match="can't read the password file"):
        load(file, {}).server()
    (file.parent / "secret").write_text("from file\nsecond line\n")
    assert load(file, {}).server().password.get_secret_value() == "from file"
    assert "from file" not in repr(load(file, {}))


def test_password_given_directly_in_the_environment_wins(file: Path) -> None:
    file.write_text(MINIMAL + 'password_file = "secret"\n')
    settings = load(file, {"ROWBACK_SERVERS__SHOP__PASSWORD": "s3cret"})
    assert settings.server().password.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)


# --- patterns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("include", "exclude", "wanted", "unwanted"),
    [
        ((), (), ["shop.orders", "a.b.c"], []),
        (("shop.*",), ("shop.tmp_?",), ["shop.orders", "shop.tmp_10"], ["shop.tmp_1", "crm.x", "shopx.y"]),
        (("shop.[a]",), (), ["shop.[a]"], ["shop.a"]),
        ((), ("Shop.*",), ["shop.orders"], ["Shop.orders"]),
    ],
)
def test_include_and_exclude(
    include: tuple[str, ...], exclude: tuple[str, ...], wanted: list[str], unwanted: list[str]
) -> None:
    server = ServerSettings(name="shop", include=include, exclude=exclude)
    for label in wanted:
        assert server.wants(*label.split(".", 1)), label
    for label in unwanted:
        assert not server.wants(*label.split(".", 1)), label


# --- what is generated ------------------------------------------------------------------------------------------------


def test_the_documentation_is_current() -> None:
    path = Path(__file__).parent.parent / "docs" / "CONFIG.md"
    assert path.read_text() == config_table.render(), f"run: python -m recovery.config_table {path}"


def test_every_key_is_described() -> None:
    for model in (config.ArchiveSettings, config.S3Settings, config.ServerSection):
        for key, _, _, description in config.describe(model):
            assert description.endswith("."), key


def test_init_writes_a_file_that_loads(tmp_path: Path) -> None:
    path = tmp_path / "rowback.toml"
    written = write(InitRequest(path, "shop-eu", 'h"\\', 3307, "üser", "file:///srv/x"))
    assert written.password_env == "SHOP_EU_PASSWORD"
    settings = load(path, {})
    server = settings.server_without_password()
    assert (server.name, server.host, server.port, server.user) == ("shop-eu", 'h"\\', 3307, "üser")
    assert settings.servers["shop-eu"].password_env == "SHOP_EU_PASSWORD"
    assert list(tmp_path.iterdir()) == [path]


def test_init_names_every_key(tmp_path: Path) -> None:
    text = render(InitRequest(tmp_path, "shop", "db", 3306, "rowback", "file:///x"), "SHOP_PASSWORD")
    uncommented = "\n".join(
        line.removeprefix("# ") if line.startswith("# ") and " = " in line and line[2].islower() else line
        for line in text.splitlines()
    )
    parsed = tomllib.loads(uncommented)
    assert set(parsed["archive"]) == set(config.ArchiveSettings.model_fields)
    assert set(parsed["archive"]["s3"]) == set(config.S3Settings.model_fields)
    assert set(parsed["servers"]["shop"]) == set(config.ServerSection.model_fields)


def test_init_keeps_an_existing_file(file: Path) -> None:
    request = InitRequest(file, "shop", "db", 3306, "rowback", "file:///x")
    with pytest.raises(ConfigError, match="exists already"):
        write(request)
    assert file.read_text() == MINIMAL
    write(InitRequest(file, "shop", "db", 3306, "rowback", "file:///x", force=True))
    assert "file:///x" in file.read_text()


@pytest.mark.parametrize(("name", "root"), [("Shop", "file:///x"), ("shop", "/x")])
def test_init_refuses_bad_values(tmp_path: Path, name: str, root: str) -> None:
    with pytest.raises(ConfigError):
        write(InitRequest(tmp_path / "rowback.toml", name, "db", 3306, "rowback", root))
    assert not list(tmp_path.iterdir())
