"""Completion as shells ask for it: names of the tree, quick, and silent about errors."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fakes.scripted_http import Raw, ScriptedHttp
from tests.mounts.command_line import Site, make_site

#: Far above the second that a completion may take, far below what a store may.
PATIENCE_SECONDS = 25


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path)
    for name in ("apple.csv", "apricot/b.csv", "pear.csv"):
        site.write(name)
    return site


def completed(site: Site, *words: str) -> list[str]:
    """What is offered for the last word."""
    line = ["headrace", "--config", str(site.root / "headrace.toml"), *words]
    asking = Site(
        site.root,
        {
            "_HEADRACE_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(line),
            "COMP_CWORD": str(len(line) - 1),
        },
    )
    done = subprocess.run(
        [site.command()[0], "-m", "headrace"],
        env=asking.env,
        capture_output=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return [text.partition(",")[2] for text in done.stdout.decode().split()]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["ls", "/d"], ["/data/"]),
        (["cat", "/data/ap"], ["/data/apple.csv", "/data/apricot/"]),
        (["warm", "/data/pear.csv", "/data/apricot/"], ["/data/apricot/b.csv"]),
        (["rm", "/data/none/x"], []),
        (["ls", "/../.."], []),
        (["war"], ["warm"]),
        (["completion", "f"], ["fish"]),
    ],
)
def test_names_are_completed(site: Site, words: list[str], offered: list[str]) -> None:
    assert sorted(completed(site, *words)) == offered


def test_a_broken_configuration_completes_nothing(site: Site) -> None:
    (site.root / "headrace.toml").write_text("no configuration")
    assert completed(site, "ls", "/d") == []


def test_a_store_that_does_not_answer_holds_up_no_prompt(site: Site) -> None:
    with ScriptedHttp(*(Raw(b"", then="stall") for _ in range(20))) as store:
        options = f'[mount.options]\nendpoint_url = "{store.endpoint}"\nanon = true\n'
        config = site.root / "headrace.toml"
        text = config.read_text()
        config.write_text(text.replace('url = "data"', f'url = "s3://bucket"\n{options}', 1))
        # The store's own bounds are minutes: it ends because it does not wait for them.
        assert completed(site, "ls", "/data/") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_script_is_one_its_shell_understands(site: Site, shell: str) -> None:
    script = site.out("completion", shell)
    assert "_HEADRACE_COMPLETE" in script
    assert "%(" not in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script.encode(), check=True)


def test_bash_goes_on_after_a_folder(site: Site) -> None:
    assert "compopt -o nospace" in site.out("completion", "bash")
    assert "compadd -U -S ''" in site.out("completion", "zsh")
