"""Imports go down: from the parts that a user starts to the ones that everything is built on."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastmux

PACKAGE = Path(fastmux.__file__).parent

#: From bottom to top. A module imports from its own folder and from lower levels.
LEVELS = [
    {"_original", "_events", "_timeouts", "_binding"},
    {"poller", "select"},
    {"selectors"},
    {"loop", "_patch"},
    {"cli", "gunicorn", "pytest", "__main__"},
]
#: The most files of a folder.
FILES = 8

MODULES = sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.glob("**/*.py"))
#: Modules that cannot be imported without the extension.
NEEDS_EXTENSION = (
    *("poller/core", "select/epoll_object", "selectors/"),
    *(f"loop/{name}" for name in ("core", "sock_calls")),
    *(f"loop/transports/{name}" for name in ("datagram", "pipe", "process", "stream")),
)


def part(module: str) -> str:
    """The name in a level: a folder, a file, or for the files of the lowest level their folder."""
    name = module.split("/")[0]
    return "." if name in LEVELS[0] else name


def level(name: str) -> int:
    return 0 if name == "." else next(number for number, names in enumerate(LEVELS) if name in names)


def imports(module: str) -> Iterator[str]:
    """The parts of the package that a module imports, anywhere in its source."""
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            path = ["fastmux", *module.split("/")[:-1]] if node.level else []
            path += (node.module or "").split(".") if node.module else []
            if path[0] == "fastmux":
                yield from map(part, [path[1]] if len(path) > 1 else [name.name for name in node.names])
        elif isinstance(node, ast.Import):
            yield from (part(name.name.split(".")[1]) for name in node.names if name.name.startswith("fastmux."))


# __init__ hands out the public names of all levels.
@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__"])
def test_a_module_imports_from_its_own_folder_and_lower_levels(module):
    own = part(module)
    upward = {
        name
        for name in imports(module)
        if name != own and name != "_native" and level(name) >= level(own) and {own, name} != {"__main__", "cli"}
    }

    assert upward == set()


@pytest.mark.parametrize("module", MODULES)
def test_only_one_module_imports_the_extension(module):
    assert ("_native" in imports(module)) == (module == "_binding")


@pytest.mark.parametrize("folder", [PACKAGE, *(path for path in PACKAGE.iterdir() if (path / "__init__.py").exists())])
def test_a_folder_has_few_files(folder):
    # Not counted: the compiled module and its types.
    files = [path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("_native")]

    assert len(files) <= FILES, files


@pytest.mark.parametrize("module", [name for name in MODULES if name not in ("__init__", "__main__")])
@pytest.mark.parametrize("pure", [None, "1"], ids=["default", "pure"])
def test_a_module_can_be_imported_alone(run_python, module, pure):
    if (
        module.startswith(NEEDS_EXTENSION)
        and not module.endswith("__init__")
        and (pure or fastmux.implementation != "c")
    ):
        pytest.skip("needs the extension")
    name = module.removesuffix("/__init__").replace("/", ".")
    assert run_python(f"import fastmux.{name}; print('imported')", FASTMUX_PURE=pure) == "imported\n"


def test_all_lists_the_public_names_and_no_others(run_python):
    program = "from fastmux import *; print(*sorted(name for name in globals() if not name.startswith('__')))"
    public = sorted({*run_python(program).split()} - {"runpy"})  # imported by run_python() on PyPy

    assert sorted([*public, "__version__"]) == sorted(fastmux.__all__)
    assert set(fastmux.__all__) <= set(dir(fastmux))
    with pytest.raises(AttributeError):
        _ = fastmux.no_such_name


def test_the_package_is_marked_as_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_the_extension_comes_with_its_types():
    if importlib.util.find_spec("fastmux._native") is None:
        pytest.skip("the extension is not installed")
    assert (PACKAGE / "_native.pyi").is_file()
