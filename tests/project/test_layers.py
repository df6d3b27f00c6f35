"""Imports go one way: from the public names down to what everything is built on."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastmux

PACKAGE = Path(fastmux.__file__).parent

#: From top to bottom. A module may import those of the lines below its own.
LAYERS = [
    ["__main__"],
    ["__init__", "_features", "_run"],
    ["_loop"],
    ["_turn", "_patch"],
    ["selectors"],
    ["_fast_epoll", "_fast_poll", "_conditions", "_transports"],
    ["_fast"],
    ["select", "_extended", "_poller"],
    ["_epoll", "_poll"],
    ["_waiting", "_arguments", "_wakeups"],
    ["_stdlib", "_core"],
    ["_sockets"],
    ["_base"],
    ["_checks"],
    ["_forks", "_inspection", "_standard", "_private", "_version", "_native"],
]
#: The compiled module is touched by one module only.
ONLY_IMPORTER = {"_native": "_core"}
#: Imported only where there is an extension.
NEEDS_EXTENSION = {"_fast", "_fast_epoll", "_fast_poll", "_epoll", "_poll"}

MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))


def level(module: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if module in names)


def imports(module: str) -> Iterator[str]:
    """The modules of this package that one of them imports, wherever in its source."""
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            path = ["fastmux"] * node.level + (node.module or "").split(".")
            if path[0] != "fastmux":
                continue
            if len(path) > 1 and path[1]:
                yield path[1]
            else:
                yield from (name.name if is_module(name.name) else "__init__" for name in node.names)
        elif isinstance(node, ast.Import):
            for name in node.names:
                path = name.name.split(".")
                if path[0] == "fastmux":
                    yield path[1] if len(path) > 1 else "__init__"


def is_module(name: str) -> bool:
    return name in MODULES or name == "_native"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_place_in_one_layer(module):
    assert sum(names.count(module) for names in LAYERS) == 1


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_lower_layers_only(module):
    upward = [name for name in imports(module) if level(name) <= level(module)]

    assert upward == []


@pytest.mark.parametrize("module", MODULES)
def test_the_compiled_module_has_one_importer(module):
    forbidden = [name for name in imports(module) if ONLY_IMPORTER.get(name, module) != module]

    assert forbidden == []


def test_the_core_imports_the_compiled_module():
    """So that the test above looks at something."""
    assert "_native" in imports("_core")


@pytest.mark.parametrize("module", [name for name in MODULES if name not in ("__init__", "__main__")])
@pytest.mark.parametrize("pure", [None, "1"], ids=["default", "pure"])
def test_a_module_can_be_imported_alone(run_python, module, pure):
    if module in NEEDS_EXTENSION and (pure or fastmux.implementation != "c"):
        pytest.skip("needs the extension")
    assert run_python(f"import fastmux.{module}; print('imported')", FASTMUX_PURE=pure) == "imported\n"


def test_all_lists_the_public_names_and_no_others():
    public = {name for name in vars(fastmux) if not name.startswith("_") and not is_module(name)}
    public.discard("annotations")

    late = {"EventLoop", "new_event_loop", "run"}  # imported when they are asked for
    assert public | late | {"__version__", "select", "selectors"} == set(fastmux.__all__)
    assert all(hasattr(fastmux, name) for name in fastmux.__all__)
    with pytest.raises(AttributeError):
        _ = fastmux.no_such_name
    assert len(fastmux.__all__) == len(set(fastmux.__all__))


def test_the_package_is_marked_as_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_the_compiled_module_comes_with_its_types():
    if importlib.util.find_spec("fastmux._native") is None:
        pytest.skip("the extension is not installed")
    assert (PACKAGE / "_native.pyi").is_file()
