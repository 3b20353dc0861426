"""The wheel and the sdist: what is in them, and that they work where there is nothing else."""

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SMOKE = ROOT / "bench" / "smoke.py"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel and an sdist of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    code = (
        "import os, sys; from setuptools import build_meta as b; out = sys.argv[1]; "
        "print(b.build_wheel(out)); print(b.build_sdist(out))"
    )
    copy = folder / "checkout"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-c", code, folder], cwd=copy, check=True, capture_output=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_the_wheel_holds_the_package_with_its_pages_and_nothing_else(built):
    wheel, _ = built
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == {"unmask"}
    source = ROOT / "src" / "unmask"
    for file in source.rglob("*"):
        hidden = "__pycache__" in file.parts
        if file.is_file() and not hidden:
            assert f"unmask/{file.relative_to(source).as_posix()}" in names
    assert "unmask/py.typed" in names


def test_the_sdist_builds_what_the_checkout_builds(built, tmp_path):
    wheel, sdist = built
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    code = "import sys; from setuptools import build_meta as b; b.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, tmp_path], cwd=folder, check=True)
    (again,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert set(one.namelist()) == set(other.namelist())


@pytest.mark.slow
def test_the_wheel_does_load_train_and_predict_in_an_empty_environment(built, tmp_path):
    wheel, _ = built
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    subprocess.run([*pip, "torch"], check=True)
    subprocess.run([*pip, wheel], check=True)
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, SMOKE], cwd=tmp_path, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["from"]).is_relative_to(tmp_path / "venv")
    assert found["label"] in ("pos", "neg")
    assert found["vector"] == [1, 128]
    assert found["heavy"] == []
    size = sum(f.stat().st_size for f in (tmp_path / "venv").rglob("*") if f.is_file())
    print(f"installed: {size / 2**20:.0f} MiB; import: {found['import_seconds']:.2f} s")
