"""What must agree before anything is released. The release itself is checked by tools/release.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from release import disagreements, misplaced
from supported import lowest, project, requirements

import finitewidth as fw

ROOT = Path(__file__).parents[1]
CHANGELOG, CITATION = ((ROOT / name).read_text(encoding="utf-8") for name in ("CHANGELOG.md", "CITATION.cff"))
CONDA_NAMES = {"matplotlib": "matplotlib-base"}  # without Qt


def test_the_versions_agree():
    assert disagreements(fw.__version__, CHANGELOG, CITATION) == []


def test_the_changelog_is_in_sections():
    assert misplaced(CHANGELOG) == []


@pytest.mark.parametrize(
    ("tag", "version", "changelog", "complaints"),
    [
        (None, "1.2.0", "To be released\nas 1.2.0: more", []),
        (None, "1.2.0", "To be released as 1.3.0: more", ["neither"]),
        (None, "1.2.0", "## [1.2.0] - 2026-12-01\n", []),
        ("v1.2.0", "1.2.0", "## [1.2.0] - 2026-12-01\n", []),
        ("v1.2.0", "1.2.0", "To be released as 1.2.0", ["no section"]),
        ("v1.3.0", "1.2.0", "## [1.2.0] - 2026-12-01\n", ["the tag is v1.3.0"]),
        (None, "1.1.0", "## [1.1.0] - 2026-12-01\n", ["CITATION"]),
    ],
)
def test_what_a_release_is_held_to(tag, version, changelog, complaints):
    found = disagreements(version, changelog, "version: 1.2.0\n", tag)
    assert len(found) == len(complaints)
    assert all(part in line for part, line in zip(complaints, found, strict=True))


@pytest.mark.parametrize(
    ("changelog", "complaint"),
    [
        ("## [Unreleased]\n### Added\n- one\n", None),
        ("## [Unreleased]\n- one\n", "stands in no section"),
        ("## [Unreleased]\n### New\n- one\n", "sections are"),
        ("## [Unreleased]\n### Added\n- one\n### Added\n", "twice"),
        ("## Version 3\n### Added\n- one\n", "write"),
    ],
)
def test_what_the_changelog_is_held_to(changelog, complaint):
    found = misplaced(changelog)
    assert found == [] if complaint is None else complaint in found[0]


def conda_requirements(part: str) -> set[str]:
    yaml = pytest.importorskip("yaml")
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    return set(recipe["requirements"][part])


def as_in_conda(line: str) -> str:
    name, bound = re.fullmatch(r"([\w-]+)(.*)", line).groups()
    return f"{CONDA_NAMES.get(name, name)} {bound}"


def test_the_conda_recipe_has_every_dependency_with_its_bound():
    described = project()
    core = {as_in_conda(line) for line in described["dependencies"]}
    assert len(core) >= 6
    python = f"python {described['requires-python']}"
    assert conda_requirements("run") == core | {python}
    optional = set(requirements(described)) - set(described["dependencies"])
    assert conda_requirements("run_constraints") == {as_in_conda(line) for line in optional}


def test_the_conda_recipe_is_of_this_version():
    assert f'version: "{fw.__version__}"' in (ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8")


def test_every_dependency_has_a_lower_bound_that_can_be_tested():
    found = lowest(requirements(project()))
    assert {"numpy", "jax", "pandas"} <= set(found)
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for version in found.values())
    with pytest.raises(ValueError, match=r"'numpy' in pyproject\.toml has no lower bound"):
        lowest(["numpy"])
