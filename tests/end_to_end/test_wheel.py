"""What is built to be installed: the sdist makes the same wheel, and a copy of it writes texts without the checkout.
`make wheel-check` does the same with the network, and with all that it depends on."""

from __future__ import annotations

import json
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling")
pytest.importorskip("pip")

import wheel_harness
from wheel_harness import ROOT, Installed, command, contents

import engine


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheel and the sdist."""
    return wheel_harness.build(ROOT, tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def installed(built: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an empty environment. Its dependencies are those of the tests: a folder that a .pth file names is
    searched, and the .pth files in it are not read, so that no editable install comes along."""
    place = tmp_path_factory.mktemp("installed")
    environment = place / "empty"
    command([sys.executable, "-m", "venv", "--without-pip", str(environment)], place)
    here = Installed(environment, place / "home", place / "elsewhere")
    pip = [sys.executable, "-m", "pip", "--python", str(environment), "install", "--quiet", "--no-compile"]
    command([*pip, "--no-deps", "--no-index", str(built[0])], place)
    packages = command([here.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], place).strip()
    theirs = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(packages, "dependencies.pth").write_text("\n".join(theirs))
    return here


def test_the_sdist_builds_the_same_wheel(built: list[Path], tmp_path: Path):
    wheel, sdist = built
    (again,) = wheel_harness.build(wheel_harness.unpack(sdist, tmp_path / "source"), tmp_path / "again", "wheel")
    assert contents(again) == contents(wheel)


def test_the_wheel_holds_all_that_is_needed_and_nothing_else(built: list[Path]):
    wheel = built[0]
    names = set(contents(wheel))
    info = f"minigpt_tui-{engine.__version__}.dist-info"
    expected = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    expected |= files("engine") | files("minigpt_tui")
    expected |= {f"engine/bundled/{name}" for name in files("checkpoints") | files("data")}
    assert names == expected
    assert {"engine/py.typed", "minigpt_tui/py.typed", "minigpt_tui/screens/play.tcss"} < names
    with zipfile.ZipFile(wheel) as archive:
        assert all(file.external_attr >> 16 & 0o444 == 0o444 for file in archive.infolist())  # root may install for all
        metadata = archive.read(f"{info}/METADATA").decode()
    assert "\nLicense-Expression: MIT\n" in metadata
    assert "\nRequires-Dist: torch>=" in metadata
    assert "\nProvides-Extra: serve\n" in metadata


def files(folder: str) -> set[str]:
    """All files of a folder of the checkout, but what Python keeps beside its modules."""
    found = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}


def test_an_installed_copy_writes_from_another_folder(installed: Installed):
    installed.is_not_the_checkout()
    models = [json.loads(line) for line in installed.run("models", "list", "--json").splitlines()]
    assert [model["name"] for model in models] == ["shakespeare"]
    text = installed.run("generate", wheel_harness.PROMPT, "-n", "40", "--seed", "1", "--device", "cpu")
    assert len(text.rstrip("\n")) >= 30
    assert not list(installed.elsewhere.iterdir())  # nothing is left where it was started


def test_an_installed_copy_opens_the_app_and_its_engine(installed: Installed):
    pytest.importorskip("pty", reason="a terminal of this kind is not on every system")
    installed.play()
    assert not list(installed.elsewhere.iterdir())
