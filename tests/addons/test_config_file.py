"""The configuration file: found, read, watched (spec A1.1, A1.5, B1.10)."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_network_proxy.addons.config_file import (
    LARGEST_FILE,
    ConfigSource,
    ConfigWatch,
    find_config,
    fingerprint,
    read,
)
from codex_network_proxy.policy.errors import ConfigError

MINE = 'default_permissions = "mine"\n[permissions.mine.network]\nenabled = true\nallowed_domains = ["a.com"]\n'


def refusal(attempt: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as refused:
        attempt()
    (problem,) = refused.value.problems
    return str(problem)


def source_of(path: Path, *, required: bool = False) -> ConfigSource:
    return ConfigSource(path, path.parent, required=required)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(MINE)
    return path


def test_codex_home_has_the_file(tmp_path: Path) -> None:
    assert find_config({"CODEX_HOME": str(tmp_path), "HOME": "/other"}) == ConfigSource(
        tmp_path.resolve() / "config.toml", tmp_path.resolve()
    )


def test_codex_home_is_followed_through_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert find_config({"CODEX_HOME": str(tmp_path / "link")}).home == (tmp_path / "real").resolve()


HOMES = [
    pytest.param({"HOME": "/home/ada"}, "/home/ada/.codex", id="in the home directory"),
    pytest.param({"HOME": "/home/ada", "CODEX_HOME": ""}, "/home/ada/.codex", id="an empty variable counts as none"),
    pytest.param({}, f"{pwd.getpwuid(os.getuid()).pw_dir}/.codex", id="the home directory of the account"),
    pytest.param({"HOME": ""}, f"{pwd.getpwuid(os.getuid()).pw_dir}/.codex", id="an empty HOME counts as none"),
]


@pytest.mark.parametrize(("environ", "home"), HOMES)
def test_the_default_need_not_exist(environ: dict[str, str], home: str) -> None:
    assert find_config(environ) == ConfigSource(Path(home) / "config.toml", Path(home))


def test_a_file_named_by_the_user_is_required(tmp_path: Path) -> None:
    source = find_config({"CODEX_HOME": str(tmp_path)}, Path("my.toml"), "mine")
    assert source == ConfigSource(Path("my.toml"), tmp_path.resolve(), "mine", required=True)


def test_a_codex_home_that_is_missing_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert f'CODEX_HOME points to "{missing}", but that path does not exist; ' in refusal(
        lambda: find_config({"CODEX_HOME": str(missing)})
    )


def test_a_codex_home_that_is_a_file_is_refused(file: Path) -> None:
    assert f'CODEX_HOME points to "{file}", but that path is not a directory; ' in refusal(
        lambda: find_config({"CODEX_HOME": str(file)})
    )


def test_a_codex_home_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    assert "but that path cannot be followed: " in refusal(
        lambda: find_config({"CODEX_HOME": str(tmp_path / "circle")})
    )


def test_an_account_without_a_home_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> pwd.struct_passwd:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert refusal(lambda: find_config({})).startswith("HOME: neither HOME nor CODEX_HOME is set; ")


def test_a_file_is_read(file: Path) -> None:
    loaded = read(source_of(file))
    assert loaded.profile == "mine"
    assert [str(pattern) for pattern in loaded.settings.allowed] == ["a.com"]
    assert loaded.warnings == ()


def test_a_file_with_a_byte_order_mark_is_read(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + MINE.encode())
    assert read(source_of(file)).settings.enabled


def test_problems_name_the_file(file: Path) -> None:
    file.write_text(MINE + "mode = 1\n")
    assert refusal(lambda: read(source_of(file))).startswith(f"{file}:5 permissions.mine.network.mode: 1 ")


def test_without_a_file_the_built_in_profile_runs_and_says_so(tmp_path: Path) -> None:
    loaded = read(source_of(tmp_path / "none" / "config.toml"))
    assert loaded.settings.enabled
    assert loaded.profile == "default"
    assert [str(warning) for warning in loaded.warnings] == [
        f"{tmp_path}/none/config.toml: there is no such file, so the built-in profile runs; "
        "write your own with `codex-proxy init`"
    ]


def test_the_built_in_profile_is_no_stand_in_for_another(tmp_path: Path) -> None:
    source = ConfigSource(tmp_path / "none.toml", tmp_path, "mine")
    assert refusal(lambda: read(source)).startswith("--profile: --profile refers to undefined profile `mine`; ")


def make_link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


def make_large(path: Path) -> None:
    path.touch()
    os.truncate(path, LARGEST_FILE + 1)


def make_latin_1(path: Path) -> None:
    path.write_bytes(b"# one\n# caf\xe9\n")


UNREADABLE = [
    pytest.param(make_link_to_nothing, "config.toml: there is no such file; ", id="a link to nothing"),
    pytest.param(Path.mkdir, "config.toml: is not a regular file; ", id="a directory"),
    pytest.param(os.mkfifo, "config.toml: is not a regular file; ", id="a pipe, which is not waited for"),
    pytest.param(make_large, "config.toml: is larger than 33554432 bytes; ", id="a file without end"),
    pytest.param(make_latin_1, "config.toml:2 encoding: is not UTF-8; ", id="another encoding"),
]


@pytest.mark.parametrize(("make", "words"), UNREADABLE)
@pytest.mark.parametrize("required", [True, False], ids=["required", "optional"])
def test_a_file_that_cannot_be_read_is_refused(
    make: Callable[[Path], None], words: str, required: bool, tmp_path: Path
) -> None:
    path = tmp_path / "config.toml"
    make(path)
    assert words in refusal(lambda: read(source_of(path, required=required)))


def test_a_file_that_must_not_be_read_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert f"{file}: cannot be read: Permission denied; " in refusal(lambda: read(source_of(file)))


def test_a_path_below_a_file_is_refused(file: Path) -> None:
    assert "cannot be read: Not a directory; " in refusal(lambda: read(source_of(file / "config.toml")))


def test_a_path_that_no_file_has_is_refused() -> None:
    assert "cannot be read: " in refusal(lambda: read(source_of(Path("a\0b"))))
    assert fingerprint(source_of(Path("a\0b"))) is None


def test_a_missing_file_that_is_required_is_refused(tmp_path: Path) -> None:
    source = source_of(tmp_path / "none.toml", required=True)
    assert refusal(lambda: read(source)).startswith(f"{tmp_path}/none.toml: there is no such file; write one with")


def edit(path: Path) -> None:
    path.write_text(MINE + "# more\n")


def touch(path: Path) -> None:
    os.utime(path, ns=(0, 0))


def swap(path: Path) -> None:
    """Another file of the same size and time."""
    state = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.rename(path)


CHANGES = [
    pytest.param(edit, id="edited"),
    pytest.param(touch, id="with another time, also an earlier one"),
    pytest.param(swap, id="replaced by one of the same size and time"),
    pytest.param(Path.unlink, id="removed"),
    pytest.param(lambda path: path.chmod(0o600), id="with other permissions"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(change: Callable[[Path], None], file: Path) -> None:
    watch = ConfigWatch(source_of(file))
    watch.load()
    assert not watch.changed()
    change(file)
    assert watch.changed()


def test_a_file_that_appears_is_noticed_and_required_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    watch = ConfigWatch(source_of(path))
    assert watch.load().profile == "default"
    assert not watch.changed()
    path.write_text(MINE)
    assert watch.changed()
    assert watch.load().profile == "mine"
    path.unlink()
    assert watch.changed()
    assert "there is no such file; " in refusal(watch.load)
    assert watch.source.required


def test_a_broken_file_is_not_read_again_until_it_changes(file: Path) -> None:
    watch = ConfigWatch(source_of(file))
    file.write_text("broken")
    refusal(watch.load)
    assert not watch.changed()
    file.write_text(MINE)
    assert watch.changed()
    assert watch.load().profile == "mine"
