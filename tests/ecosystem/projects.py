"""The projects whose test suites run on the event loop."""

from __future__ import annotations

from typing import NamedTuple


class Project(NamedTuple):
    """A project of the package index, pinned: its suite must not change under us."""

    name: str
    version: str
    #: Packages that the suite needs. uvloop is left out: some suites would prefer it.
    requirements: tuple[str, ...]
    #: The tests to run.
    tests: tuple[str, ...] = ("tests",)
    #: Options of pytest, instead of the project's own ``addopts``.
    options: tuple[str, ...] = ()
    #: Where the suite is, if the source archive has none: a git repository with the version as a tag. To use a mirror:
    #: git config --global url.MIRROR.insteadOf REPOSITORY
    repository: str | None = None
    #: The least number of tests that must run, a little below the present one.
    least: int = 1
    #: Classes of loops that the tests define or create by themselves.
    own_loops: tuple[str, ...] = ()


PROJECTS = [
    Project(
        "asyncssh",
        "2.24.1",
        ("aiofiles", "bcrypt", "fido2", "ifaddr", "pyOpenSSL", "setuptools"),
        # For root every file is readable: these tests fail, and their connections keep the suite waiting.
        options=("-k", "not not_readable"),
        least=1700,
    ),
    Project(
        "aiohttp",
        "3.14.5",
        # python-on-whales starts containers, for tests that the project's own configuration deselects.
        ("aiodns", "backports.zstd", "blockbuster", "brotli", "freezegun", "gunicorn", "isal", "proxy.py>=2.4.4rc5",
         "pytest-codspeed", "pytest-cov", "pytest-mock", "pytest-xdist", "re-assert", "trustme", "zlib_ng"),
        # The ignored tests create no loop: each imports a module in a new interpreter.
        options=("--ignore=tests/test_circular_imports.py", "-m", "not dev_mode and not autobahn and not internal"),
        least=5500,
    ),
    Project(
        "websockets",
        "17.0.1",
        ("mitmproxy", "python-socks[asyncio]", "trio", "werkzeug"),
        ("tests/asyncio", "tests/legacy"),  # the others use no loop, or trio's
        repository="https://github.com/python-websockets/websockets",
        least=1000,
    ),
    Project(
        "uvicorn",
        "0.54.0",
        ("a2wsgi", "cryptography", "httptools", "httpx2", "pytest-codspeed", "pytest-mock", "python-dotenv", "pyyaml",
         "trustme", "watchfiles", "websockets", "wsproto", "zttp"),
        # The deselected tests expect the class of the standard loop, by name.
        options=(
            "--ignore=tests/benchmarks",
            "--deselect=tests/test_auto_detection.py::test_loop_auto",
            "--deselect=tests/test_config.py::test_get_loop_factory",
        ),
        least=1300,
    ),
]  # fmt: skip
