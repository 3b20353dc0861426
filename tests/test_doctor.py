"""`unmask doctor` says what is there and what is missing."""

import json
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from unmask.cli import doctor
from unmask.cli.app import app


def run(*arguments):
    return CliRunner().invoke(app, ["doctor", *arguments])


def test_every_extra_of_the_package_is_known():
    declared = set(metadata.metadata("unmask").get_all("Provides-Extra"))
    assert set(doctor.PURPOSES) == declared - {"dev"}


def test_it_says_what_is_here():
    found = json.loads(run("--json").stdout)
    assert found["machine"]["processors"] >= 1
    core = found["extras"][0]
    assert core["extra"] == ""
    assert core["ready"]


def test_a_missing_library_is_named_with_the_command_that_brings_it(monkeypatch):
    there = metadata.version

    def version(name):
        if name == "pillow":
            raise metadata.PackageNotFoundError(name)
        return there(name)

    monkeypatch.setattr(metadata, "version", version)
    done = run("--json")
    image = next(e for e in json.loads(done.stdout)["extras"] if e["extra"] == "image")
    assert not image["ready"]
    assert Requirement(image["missing"][0]).name == "pillow"
    assert image["mend"] == "pip install 'unmask[image]'"
    assert done.exit_code == 0  # an extra is no fault


def test_without_what_every_command_needs_it_fails(monkeypatch):
    there = metadata.version
    monkeypatch.setattr(metadata, "version", lambda n: "0.0.1" if n == "tokenizers" else there(n))
    assert run("--json").exit_code == 1


@pytest.mark.parametrize(("threads", "said"), [("1", False), ("4096", True)])
def test_too_many_threads_are_said(monkeypatch, threads, said):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    advice = " ".join(json.loads(run("--json").stdout)["advice"])
    assert ("OMP_NUM_THREADS is 4096" in advice) == said
