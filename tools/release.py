"""Build a wheel and an sdist, and check all that a release promises: `make release`.

    python tools/release.py                        # every check; about ten minutes, most of it installing
    python tools/release.py --only wheel sdist     # some of them
    python tools/release.py --keep dist            # and keep what was built, where all of it passed

Checks: version, wheel, sdist, core, extras, types, tests. Each prints what it found; the status is 1 where one failed.
Where HEAD carries a tag v*, it must be the version; without one this is a rehearsal.
"""

from __future__ import annotations

import argparse
import email
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from environments import ROOT, Environment, Failed, run
from supported import project

WHEEL_BYTES, CORE_BYTES, FIRST_PREDICTION_SECONDS = 1e6, 600e6, 120.0
SERVED = ROOT / "tools" / "served"
NOT_IN_SDIST = (".ci/",)  # what only the repository's own machinery reads
ADDED_TO_SDIST = ("PKG-INFO",)
SECTIONS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
PREDICT = ("-m", "finitewidth.cli", "predict", "--data", "digits", "--classes", "6,9", "--n-train", "100", "--json")


# --- version ----------------------------------------------------------------------------------------------------------


def disagreements(version: str, changelog: str, citation: str, tag: str | None = None) -> list[str]:
    """Where the version of the package, a tag, CHANGELOG.md and CITATION.cff do not agree."""
    found = []
    if not re.search(rf"^version: {re.escape(version)}$", citation, re.MULTILINE):
        found.append(f"CITATION.cff does not say version: {version}")
    dated = re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d{{2}}-\d{{2}}$", changelog, re.MULTILINE)
    if tag is not None and tag != f"v{version}":
        found.append(f"the tag is {tag}, the version {version}: set __version__ in src/finitewidth/__init__.py")
    if tag is not None and not dated:
        found.append(f"CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD'")
    if tag is None and not dated and f"released as {version}" not in " ".join(changelog.split()):
        found.append(f"CHANGELOG.md neither has a section for {version} nor says what is 'To be released as {version}'")
    return found


def misplaced(changelog: str) -> list[str]:
    """What in CHANGELOG.md is not as Keep a Changelog has it: unknown or repeated sections, lines outside of any."""
    found, seen, release = [], set[str](), ""
    for line in changelog.splitlines():
        if line.startswith("## "):
            release, seen = line[3:], set()
            if not re.fullmatch(r"\[(Unreleased|\d+\.\d+\.\d+\S*)\]( - \d{4}-\d{2}-\d{2})?", release):
                found.append(f"{line!r}: write '## [Unreleased]' or '## [1.2.3] - YYYY-MM-DD'")
        elif line.startswith("### "):
            if line[4:] not in SECTIONS:
                found.append(f"{line!r} in {release}: sections are {', '.join(SECTIONS)}")
            if line[4:] in seen:
                found.append(f"{line!r} twice in {release}")
            seen.add(line[4:])
        elif line.startswith("- ") and not seen:
            found.append(f"{line[:60]!r} stands in no section")
    return found


def tag_of_head() -> str | None:
    done = subprocess.run(["git", "tag", "--points-at", "HEAD", "v*"], cwd=ROOT, capture_output=True, text=True)
    return (done.stdout.split() or [None])[0]


# --- the checks -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Release:
    """What is built from the checkout, in a folder that goes when all is done."""

    folder: Path
    pytest: tuple[str, ...] = ()

    @cached_property
    def dist(self) -> Path:
        """Wheel and sdist by `python -m build`: the wheel is made from the sdist, not from the checkout."""
        builder = Environment.fresh(self.folder / "builder")
        builder.pip("install", "build")
        builder.run("-m", "build", "--outdir", str(self.folder / "dist"), str(ROOT))
        return self.folder / "dist"

    @cached_property
    def wheel(self) -> Path:
        (found,) = self.dist.glob("*.whl")
        return found

    @cached_property
    def sdist(self) -> Path:
        (found,) = self.dist.glob("*.tar.gz")
        return found

    @cached_property
    def version(self) -> str:
        text = (ROOT / "src/finitewidth/__init__.py").read_text(encoding="utf-8")
        (found,) = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
        return found

    def with_extra(self, name: str) -> tuple[Environment, float]:
        """An empty environment with the wheel and one extra, or none for "", and the seconds it took."""
        environment = Environment.fresh(self.folder / f"with-{name or 'core'}")
        started = time.perf_counter()
        environment.pip("install", f"{self.wheel}[{name}]" if name else str(self.wheel))
        return environment, time.perf_counter() - started

    def serve(self, environment: Environment, name: str, *arguments: str) -> None:
        """Run what an extra serves, in a folder of its own, with nothing of the checkout in sight."""
        place = self.folder / f"served-{name}"
        place.mkdir(exist_ok=True)
        environment.run("-P", str(SERVED / f"{name}.py"), *arguments, cwd=place)


def must(condition: object, message: str) -> None:
    if not condition:
        raise Failed(message)


def version(release: Release) -> str:
    """Tag, package, CHANGELOG.md and CITATION.cff agree; CHANGELOG.md is in sections."""
    changelog, citation = ((ROOT / name).read_text(encoding="utf-8") for name in ("CHANGELOG.md", "CITATION.cff"))
    tag = tag_of_head()
    wrong = disagreements(release.version, changelog, citation, tag) + misplaced(changelog)
    must(not wrong, "\n".join(wrong))
    return f"{release.version}, " + (f"tagged {tag}" if tag else "no tag at HEAD: a rehearsal")


def wheel(release: Release) -> str:
    """Small, holds the package and nothing else, its types and data files, and asks for what pyproject.toml says."""
    size = release.wheel.stat().st_size
    must(size < WHEEL_BYTES, f"the wheel has {size:,} bytes; wanted: less than {WHEEL_BYTES:,.0f}")
    with zipfile.ZipFile(release.wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        described = email.message_from_bytes(archive.read(metadata))
    strangers = [n for n in names if not n.startswith(("finitewidth/", f"finitewidth-{release.version}.dist-info/"))]
    must(not strangers, f"in the wheel, and not of the package: {strangers}")
    source = ROOT / "src"
    wanted = {p.relative_to(source).as_posix() for p in (source / "finitewidth").rglob("*") if p.is_file()}
    wanted = {name for name in wanted if "__pycache__" not in name}
    must(wanted <= set(names), f"not in the wheel: {sorted(wanted - set(names))}")
    must("finitewidth/py.typed" in names, "no py.typed in the wheel: type checkers would not look at it")
    must(any(name.endswith("licenses/LICENSE") for name in names), "no licence in the wheel")
    must(described["Version"] == release.version, f"the wheel says version {described['Version']}")
    core = {line for line in described.get_all("Requires-Dist") or () if "extra ==" not in line}
    must(core == set(project()["dependencies"]), f"the wheel asks for {sorted(core)}")
    extras = set(described.get_all("Provides-Extra") or ())
    must(extras == set(project()["optional-dependencies"]), f"the wheel has the extras {sorted(extras)}")
    return f"{size / 1e3:.0f} kB, {len(names)} files"


def sdist(release: Release) -> str:
    """Holds what git tracks, all of it and nothing else."""
    with tarfile.open(release.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = set(run(["git", "ls-files", "-z"]).split("\0")) - {""}
    wanted = {name for name in tracked if not name.startswith(NOT_IN_SDIST)}
    must(wanted <= names, f"tracked by git, not in the sdist: {sorted(wanted - names)}")
    strangers = names - wanted - set(ADDED_TO_SDIST)
    must(not strangers, f"in the sdist, not tracked by git: {sorted(strangers)}")
    return f"{release.sdist.stat().st_size / 1e3:.0f} kB, {len(names)} files"


def core(release: Release) -> str:
    """Into an empty environment, nothing cached, to a first prediction; its size; what the core serves alone."""
    must(release.wheel, "no wheel")
    environment = Environment.fresh(release.folder / "with-core")
    empty, started = environment.disk(), time.perf_counter()
    environment.pip("install", "--no-cache-dir", str(release.wheel))
    installed = time.perf_counter() - started
    environment.run(*PREDICT, cwd=release.folder)
    seconds, size = time.perf_counter() - started, environment.disk()
    must(
        seconds < FIRST_PREDICTION_SECONDS,
        f"{seconds:.0f} s to a first prediction; wanted: {FIRST_PREDICTION_SECONDS:.0f}",
    )
    must(size < CORE_BYTES, f"the core takes {size / 1e6:.0f} MB; wanted: less than {CORE_BYTES / 1e6:.0f}")
    release.serve(environment, "core")
    return (
        f"{seconds:.1f} s to a first prediction ({installed:.1f} s of it pip, no cache), {size / 1e6:.0f} MB on disk, "
        f"{empty / 1e6:.0f} MB of it the empty environment"
    )


def extras(release: Release) -> str:
    """Each by itself in an empty environment: it installs, imports, and does what it serves; then all together."""
    said = []
    names = [name for name in project()["optional-dependencies"] if name not in ("dev", "docs", "all")]
    for name in [*sorted(names, key=lambda name: name == "table"), "all"]:
        environment, seconds = release.with_extra(name)
        for part in names if name == "all" else [name]:
            shutil.rmtree(release.folder / f"served-{part}" / "pictures", ignore_errors=True)
            results = (str(release.folder / "served-sweep" / "out"),) if part == "table" else ()
            release.serve(environment, part, *results)
        said.append(f"{name} {seconds:.0f} s {environment.disk() / 1e6:.0f} MB")
        shutil.rmtree(environment.folder)
    return ", ".join(said)


def types(release: Release) -> str:
    """mypy reads the installed package's types: a user's program passes, and its mistakes are found."""
    environment, _ = release.with_extra("")
    environment.pip("install", "mypy")
    place = release.folder / "typed"
    place.mkdir(exist_ok=True)
    shutil.copy(SERVED / "typed.py", place / "program.py")
    return environment.run("-m", "mypy", "--strict", "--warn-unused-ignores", "program.py", cwd=place).strip()


def tests(release: Release) -> str:
    """Out of the unpacked sdist: every test is found, and the quick ones pass."""
    with tarfile.open(release.sdist) as archive:
        archive.extractall(release.folder / "unpacked", filter="data")
    (root,) = (release.folder / "unpacked").iterdir()
    here = {"PYTHONPATH": str(root / "src"), "OPENBLAS_NUM_THREADS": "1"}
    python, pytest = sys.executable, ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    place = run([python, "-c", "import finitewidth; print(finitewidth.__file__)"], root, here)
    must(place.startswith(str(root)), f"the tests of the sdist would test {place}")
    found = run([python, *pytest, "--collect-only"], root, here).strip().splitlines()[-1]
    passed = run([python, *pytest, *release.pytest], root, here).strip().splitlines()[-1]
    return f"{found}; {' '.join(release.pytest)}: {passed}"


CHECKS: dict[str, Callable[[Release], str]] = {
    check.__name__: check for check in (version, wheel, sdist, core, extras, types, tests)
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS), metavar="CHECK")
    parser.add_argument("--keep", metavar="DIR", help="copy wheel and sdist here where every check passed")
    parser.add_argument("--pytest", default="", help="arguments of pytest for the check `tests`")
    given = parser.parse_args(arguments)
    failed = []
    with tempfile.TemporaryDirectory(prefix="finitewidth-release-") as folder:
        release = Release(Path(folder), tuple(shlex.split(given.pytest)))
        for name in given.only:
            started = time.perf_counter()
            try:
                said, verdict = CHECKS[name](release), "ok"
            except Failed as error:
                said, verdict = str(error), "FAILED"
                failed.append(name)
            print(f"{verdict:6} {name:8} {said}  [{time.perf_counter() - started:.0f} s]", flush=True)
        if given.keep and not failed:
            shutil.copytree(release.dist, given.keep, dirs_exist_ok=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
