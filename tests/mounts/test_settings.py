"""The configuration: where it is found, what it means, and that nothing wrong is passed over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from headrace_mounts.settings import Settings, find_file, load_settings
from headrace_namespace.errors import ConfigError
from headrace_namespace.freshness import CHECK, PINNED, Freshness

MOUNT = '[[mount]]\npath = "/data"\nurl = "/srv/data"\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def write(folder: Path, text: str, name: str = "headrace.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(text)
    return file


def load(text: str, home: Path, **environ: str) -> Settings:
    """The settings of a file with this text, in the folder `site` beside the home."""
    file = write(home.parent / "site", text)
    return load_settings(file, environ={"HOME": str(home), **environ})


def fault(text: str, home: Path, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, home, **environ)
    return str(caught.value)


def test_the_places_are_looked_through_in_order(tmp_path: Path, home: Path) -> None:
    system = write(tmp_path / "etc", MOUNT)
    environ = {"HOME": str(home)}

    def found(config: Path | None = None) -> str:
        return load_settings(config, environ=environ, system_file=system).source

    assert found() == str(system)
    in_home = write(home / ".config/headrace", MOUNT)
    assert found() == str(in_home)
    environ["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    assert found() == str(system)
    in_xdg = write(tmp_path / "xdg/headrace", MOUNT)
    assert found() == str(in_xdg)
    environ["HEADRACE_CONFIG"] = str(write(tmp_path, MOUNT, "by-variable.toml"))
    assert found() == environ["HEADRACE_CONFIG"]
    given = write(tmp_path, MOUNT, "given.toml")
    assert found(given) == str(given)


@pytest.mark.parametrize(
    ("written", "freshness"),
    [("30", Freshness(30)), ("1.5", Freshness(1.5)), ("0", CHECK), ('"30s"', Freshness(30))],
)
def test_freshness_may_be_a_number_of_seconds(
    written: str, freshness: Freshness, home: Path
) -> None:
    assert load(MOUNT + f"freshness = {written}\n", home).mounts[0].mount.freshness == freshness


def test_a_place_is_named_once(home: Path) -> None:
    assert fault(MOUNT + "freshness = true\n", home).count("line 4") == 1


def test_a_file_in_the_current_folder_is_suggested_and_not_taken(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write(tmp_path / "here", MOUNT).parent)
    none = tmp_path / "none.toml"
    with pytest.raises(ConfigError, match='give config="headrace.toml"'):
        load_settings(environ={"HOME": str(home)}, system_file=none)
    with pytest.raises(ConfigError, match="give --config headrace.toml") as caught:
        find_file(environ={"HOME": str(home)}, system_file=none, option="--config")
    assert "config=" not in str(caught.value)


def test_where_nothing_is_found_the_error_says_where_it_looked_and_how_to_begin(
    tmp_path: Path, home: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ={"HOME": str(home)}, system_file=tmp_path / "none.toml")
    text = str(caught.value)
    for part in ("HEADRACE_CONFIG", str(home / ".config/headrace/headrace.toml"), "none.toml"):
        assert part in text
    assert '[[mount]]\npath = "/data"' in text


def test_a_file_that_was_named_must_be_there(tmp_path: Path, home: Path) -> None:
    write(home / ".config/headrace", MOUNT)
    environ = {"HOME": str(home), "HEADRACE_CONFIG": str(tmp_path / "gone.toml")}
    with pytest.raises(ConfigError, match=r"HEADRACE_CONFIG .*gone\.toml"):
        load_settings(environ=environ)
    with pytest.raises(ConfigError, match=r"other\.toml"):
        load_settings(tmp_path / "other.toml", environ=environ)


def test_defaults(home: Path) -> None:
    settings = load(MOUNT, home)
    assert settings.cache.folder == home / ".cache/headrace"
    assert settings.cache.memory_bytes == 2 << 30
    assert settings.cache.ssd_bytes == 20 << 30
    assert settings.cache.key_file.parent == home / ".local/state/headrace"
    assert len(settings.cache.key_file.stem) == 16
    assert settings.policy is None
    mount = settings.mounts[0].mount
    assert (mount.path.text, mount.url, mount.freshness, mount.tags) == (
        "/data",
        "/srv/data",
        CHECK,
        (),
    )


def test_the_xdg_folders_are_used_and_relative_ones_ignored(tmp_path: Path, home: Path) -> None:
    settings = load(MOUNT, home, XDG_CACHE_HOME=str(tmp_path / "c"), XDG_STATE_HOME="relative")
    assert settings.cache.folder == tmp_path / "c/headrace"
    assert settings.cache.key_file.parent == home / ".local/state/headrace"


def test_two_caches_have_two_keys(home: Path) -> None:
    one = load(MOUNT + '[cache]\nfolder = "a"', home).cache
    other = load(MOUNT + '[cache]\nfolder = "b"', home).cache
    assert one.key_file != other.key_file


def test_relative_names_are_relative_to_the_file(home: Path) -> None:
    site = home.parent / "site"
    write(site, "version = 1", "policy.toml")
    text = MOUNT + (
        '[cache]\nfolder = "cache"\nkey_file = "keys/k"\nmemory = "64MiB"\nssd = 0\n'
        '[policy]\nfile = "policy.toml"\n'
    )
    settings = load(text, home)
    assert settings.cache.folder == site / "cache"
    assert settings.cache.key_file == site / "keys/k"
    assert (settings.cache.memory_bytes, settings.cache.ssd_bytes) == (64 << 20, 0)
    assert settings.policy is not None
    assert settings.policy.text == "version = 1"
    assert settings.policy.name == str(site / "policy.toml")
    assert settings.context.base_folder == str(site)


def test_a_dict_is_read_the_same_way(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = {
        "mount": [{"path": "/d", "url": "x", "freshness": "pinned"}],
        "cache": {"folder": "c"},
    }
    settings = load_settings(config, environ={"HOME": str(home)})
    assert settings.source == "config"
    assert settings.cache.folder == tmp_path / "c"
    assert settings.context.base_folder == str(tmp_path)
    assert settings.mounts[0].mount.freshness == PINNED
    with pytest.raises(ConfigError, match=r'config: mount\["/d"\]\.pth: is not a known key'):
        load_settings({"mount": [{"path": "/d", "url": "x", "pth": "y"}]}, environ={"HOME": "/h"})


def test_a_tilde_is_the_home(home: Path) -> None:
    text = '[[mount]]\npath = "/d"\nurl = "~/d"\n[cache]\nfolder = "~/c"\n'
    settings = load(text, home)
    assert settings.mounts[0].mount.url == str(home / "d")
    assert settings.cache.folder == home / "c"


def test_variables_are_expanded_in_values(home: Path) -> None:
    text = (
        '[[mount]]\npath = "/d"\nurl = "s3://${BUCKET}/$x/$${BUCKET}"\ntags = ["team=${TEAM}"]\n'
        '[mount.options]\nendpoint_url = "${URL}"\n'
    )
    settings = load(text, home, BUCKET="b", TEAM="t", URL="http://h:1")
    assert settings.mounts[0].mount.url == "s3://b/$x/${BUCKET}"
    assert settings.mounts[0].mount.tags == ("team=t",)
    assert settings.mounts[0].options.text("endpoint_url") == "http://h:1"


def test_an_unknown_variable_is_named_with_its_line(home: Path) -> None:
    text = fault(MOUNT + '[cache]\nfolder = "${NOWHERE}/c"\n', home)
    assert "NOWHERE is not set" in text
    assert "headrace.toml, line 5" in text
    assert "does not name a variable" in fault(MOUNT + '[cache]\nfolder = "${a b}"\n', home)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (MOUNT + "ttl = 0\n", ["line 4", "is 0", "no-cache"]),
        (MOUNT + "read_only = 1\n", ["line 4", "must be true or false"]),
        (MOUNT.replace("/srv/data", "headrace:///x"), ["line 3", "leads back into the tree"]),
        (MOUNT + '[cache]\nfolder = "/srv/data/c"\n', ["line 3", "headrace keeps its own files"]),
        (MOUNT + '[cache]\nstate_folder = "/srv"\n', ["line 3", "/srv/data lies in /srv"]),
        (MOUNT + "[cahce]\n", ["line 4", "cahce", "did you mean 'cache'"]),
        (MOUNT + "[polcy]\n", ["line 4", "polcy", "did you mean 'policy'"]),
        (MOUNT + "[xyz]\n", ["line 4", "known here", "mount, node, policy, remote"]),
        (MOUNT + "[node.htpt]\n", ["line 4", "did you mean 'http'"]),
        (MOUNT + '[node]\nusers = [""]\n', ["line 5", "node.users", "'' is no name"]),
        (MOUNT + '[node]\ngroups = ["st*"]\n', ["line 5", "node.groups", "'st*' is no name"]),
        (MOUNT + '[node]\nuser = "ann "\n', ["line 5", "node.user", "'ann ' is no name"]),
        (MOUNT + '[cache]\nmemry = "1GiB"\n', ["line 5", "memry", "did you mean 'memory'"]),
        (MOUNT + 'freshnes = "check"\n', ["line 4", "did you mean 'freshness'"]),
        (MOUNT + 'freshness = "often"\n', ["line 4", "check, pinned or an age"]),
        (MOUNT + "freshness = true\n", ["line 4", "must be a text"]),
        (MOUNT + "freshness = -1\n", ["line 4", 'mount["/data"].freshness', "'-1'"]),
        (MOUNT + "freshness = inf\n", ["line 4", "'inf'"]),
        (MOUNT + MOUNT.replace("/data", "/DATA", 1), ["line 5", "mounted twice", "/data"]),
        (MOUNT.replace('"/data"', '"data/"'), ["line 2", "write '/data'"]),
        (MOUNT.replace('"/data"', '"/../x"'), ["line 2", "above the root"]),
        (MOUNT.replace('"/srv/data"', '""'), ["line 3", "is empty"]),
        ('[[mount]]\npath = "/x"\n', ["line 1", "'url' is missing"]),
        ('[mount]\npath = "/x"\n', ["[[mount]]"]),
        (MOUNT + 'tags = [""]\n', ["line 4", "'' is not a tag"]),
        (MOUNT + 'tags = ["pii"]\n', ["line 4", "'pii' is not a tag", "pii=eu"]),
        (MOUNT + '[cache]\nmemory = "1MiB"\n', ["line 5", "at least 8MiB"]),
        (MOUNT + '[cache]\nmemory = "lots"\n', ["line 5", "2GiB"]),
        (MOUNT + '[cache]\nssd = "1MiB"\n', ["line 5", "at least 64MiB, or 0"]),
        (MOUNT + '[cache]\nfolder = "c"\nkey_file = "c/k"\n', ["line 6", "inside the cache"]),
        (MOUNT + '[cache]\nfolder = "c"\nkey_file = "c/../c/k"\n', ["inside the cache"]),
        (MOUNT + '[policy]\nfile = "none.toml"\n', ["line 5", "none.toml", "nothing is served"]),
        (MOUNT + "[policy]\n", ["'file' is missing"]),
        (MOUNT + "path = [", ["not valid TOML"]),
    ],
)
def test_what_is_wrong_is_refused_with_file_line_and_key(
    text: str, parts: list[str], home: Path
) -> None:
    message = fault(text, home)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("word", ['client = {token = "hunter2"}', 'client = ["hunter2"]'])
def test_what_stands_where_tables_belong_is_not_repeated(word: str, home: Path) -> None:
    message = fault(MOUNT + f"[node]\n{word}\n", home)
    assert "[[node.client]]" in message and "hunter2" not in message
    assert "hunter2" not in fault(MOUNT + '[node]\nhttp = "hunter2"\n', home)


@pytest.mark.parametrize(
    "url", ["s3://key:hunter2@bucket/x", "s3://hunter2@b", "sftp://u:hunter2@h"]
)
def test_a_url_with_credentials_is_refused_and_not_repeated(url: str, home: Path) -> None:
    message = fault(MOUNT.replace("/srv/data", url), home)
    assert "must not carry credentials" in message
    assert "hunter2" not in message
    in_option = MOUNT + '[mount.options]\nendpoint_url = "http://u:hunter2@h"\n'
    assert "hunter2" not in fault(in_option, home)


def test_an_at_sign_in_a_key_is_no_credential(home: Path) -> None:
    url = "s3://bucket/a:b@c"
    assert load(MOUNT.replace("/srv/data", url), home).mounts[0].mount.url == url


def test_a_policy_that_cannot_be_read_serves_nothing(home: Path) -> None:
    site = home.parent / "site"
    site.mkdir()
    (site / "p.toml").write_bytes(b"version = 1\nname = '\xff'")
    assert "not UTF-8 text (line 2)" in fault(MOUNT + '[policy]\nfile = "p.toml"\n', home)
    (site / "folder").mkdir()
    assert "is not a plain file" in fault(MOUNT + '[policy]\nfile = "folder"\n', home)
    assert "is not a plain file" in fault(MOUNT + '[policy]\nfile = "/dev/zero"\n', home)


def test_the_fingerprint_tells_edits_from_repeats(home: Path) -> None:
    site = home.parent / "site"
    write(site, "version = 1", "p.toml")
    text = MOUNT + '[mount.options]\nkey_env = "K"\n[policy]\nfile = "p.toml"\n'
    first = load(text, home, K="1").fingerprint
    assert load("# a remark\n" + text, home, K="1", OTHER="2").fingerprint == first

    def changed(text: str, **environ: str) -> bool:
        return load(text, home, **environ).fingerprint != first

    assert changed(text, K="2")
    assert changed(text.replace("/srv", "/mnt"), K="1")
    assert changed(text + '[cache]\nmemory = "1GiB"\n', K="1")
    write(site, "version = 2", "p.toml")
    # A service looks at its policy file again by itself: it stays one service.
    assert not changed(text, K="1")


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_uid: int) -> object:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", nobody)
    config: Mapping[str, object] = {"mount": [{"path": "/d", "url": "/d"}]}
    with pytest.raises(ConfigError, match="HOME is not set"):
        load_settings(config, environ={})
