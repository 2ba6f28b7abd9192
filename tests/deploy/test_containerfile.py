"""The Containerfile is what a linter takes, and what docs/node.md says of it."""

from __future__ import annotations

import json
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.deploy.image import CONTAINERFILE, ROOT, compose, last, steps

FINAL = ("node", "client")


def test_a_linter_finds_nothing_to_say() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [str(hadolint), "--no-color", "--format=json", str(CONTAINERFILE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


@pytest.mark.parametrize("stage", FINAL)
def test_it_runs_as_nobody_in_particular(stage: str) -> None:
    user, group = last(stage, "USER").text.split(":")
    assert int(user) >= 10_000 and int(group) >= 10_000
    assert {f"{user}:{group}"} == {service["user"] for service in compose()["services"].values()}


def test_it_starts_without_a_shell_and_ends_in_order() -> None:
    assert [*last("node", "ENTRYPOINT").command, *last("node", "CMD").command] == [
        "/opt/headrace/bin/headrace",
        "node",
    ]
    assert last("client", "ENTRYPOINT").command == ["/opt/headrace/bin/python"]
    assert last("node", "STOPSIGNAL").text == "SIGTERM"
    assert last("node", "HEALTHCHECK").command[-2:] == ["node", "--check"]
    assert last("node", "HEALTHCHECK").text.count("CMD") == 1


def test_no_volume_is_made_behind_ones_back() -> None:
    assert not [step for step in steps() if step.word in ("VOLUME", "EXPOSE", "ADD")]


def test_images_are_named_by_a_version() -> None:
    made = {step.stage for step in steps() if step.stage}
    (python,) = [step.pairs["PYTHON"] for step in steps() if step.word == "ARG" and not step.stage]
    assert python.split("-")[0].count(".") == 1
    for step in steps():
        if step.word == "FROM":
            base = step.text.split()[0]
            assert base in made or base == "docker.io/library/python:${PYTHON}"


def test_what_is_copied_is_there_and_not_ignored() -> None:
    kept = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    copied = [
        source
        for step in steps()
        if step.word == "COPY" and not step.flags
        for source in step.text.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists()
        assert any(fnmatch(source, pattern) for pattern in kept), source
