"""python -m fastmux run: each usual way to start a server runs on fastmux.EventLoop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

APPS = Path(__file__).with_name("apps")
RUN = ("-m", "fastmux", "run")
#: uvloop is installed, and these programs select it if they can.
REPLACE = (*RUN, "--replace-uvloop")
GUNICORN = ("-m", "gunicorn", "--bind", "127.0.0.1:PORT")
UVICORN = ("-m", "uvicorn", "--port", "PORT", "asgi:app")

MOST_USED = {
    "uvicorn": [*REPLACE, *UVICORN],
    "uvicorn --workers": [*RUN, *UVICORN, "--loop", "asyncio", "--workers", "2"],
    "gunicorn -k uvicorn_worker.UvicornWorker": [*REPLACE, *GUNICORN, "-k", "uvicorn_worker.UvicornWorker", "asgi:app"],
    "django runserver": [*RUN, "manage.py", "runserver", "PORT"],
    "hypercorn": [*RUN, "-m", "hypercorn", "--bind", "127.0.0.1:PORT", "asgi:app"],
}
OTHERS = {
    "uvicorn --loop asyncio": [*RUN, *UVICORN, "--loop", "asyncio"],
    "uvicorn --reload": [*REPLACE, *UVICORN, "--reload"],
    "hypercorn --workers": [*RUN, "-m", "hypercorn", "--workers", "2", "--bind", "127.0.0.1:PORT", "asgi:app"],
    "gunicorn -k asgi": [*REPLACE, *GUNICORN, "-k", "asgi", "asgi:app"],
    "gunicorn -k aiohttp.GunicornWebWorker": [*RUN, *GUNICORN, "-k", "aiohttp.GunicornWebWorker", "aiohttp_app:app"],
    "granian": [*REPLACE, "-m", "granian", "--interface", "asgi", "--port", "PORT", "asgi:app"],
    "granian --workers": [
        *(*RUN, "-m", "granian", "--interface", "asgi", "--loop", "asyncio"),
        *("--workers", "2", "--port", "PORT", "asgi:app"),
    ],
    "sanic": [*REPLACE, "-m", "sanic", "--port", "PORT", "sanic_app:app"],
    "sanic --single-process": [*REPLACE, "-m", "sanic", "--single-process", "--port", "PORT", "sanic_app:app"],
    "aiohttp.web": [*RUN, "-m", "aiohttp.web", "--hostname", "127.0.0.1", "--port", "PORT", "aiohttp_app:make"],
    "daphne": [*RUN, "-m", "daphne", "--port", "PORT", "asgi:app"],
}


@pytest.mark.most_used
@pytest.mark.parametrize("arguments", MOST_USED.values(), ids=MOST_USED)
def test_a_server_runs_on_fastmux(start, arguments):
    assert start(*arguments).fetch() == "fastmux.EventLoop"


@pytest.mark.parametrize("arguments", OTHERS.values(), ids=OTHERS)
def test_another_server_runs_on_fastmux(start, arguments):
    assert start(*arguments).fetch() == "fastmux.EventLoop"


def test_the_server_of_django_and_daphne_runs_on_fastmux(start):
    assert start(*RUN, "manage.py", "runserver", "PORT", DAPHNE="1").fetch() == "fastmux.EventLoop"


def test_a_program_that_selects_uvloop_keeps_it_and_is_told(start):
    server = start(*RUN, *UVICORN)

    assert server.fetch() == "uvloop.Loop"
    assert f"fastmux: process {server.process.pid} runs on uvloop" in server.output()
    assert server.output().count("--replace-uvloop") == 1


def test_without_children_the_workers_run_on_the_standard_loop(start):
    server = start(*RUN, "--no-children", *UVICORN, "--loop", "asyncio", "--workers", "2")

    assert server.fetch() == "asyncio.unix_events._UnixSelectorEventLoop"


def test_the_report_of_a_server_that_is_terminated_names_its_loop(start):
    server = start(*REPLACE, "--report", *UVICORN)
    server.fetch()

    assert f"fastmux: uvicorn (process {server.process.pid}): event loops: 1 fastmux.EventLoop;" in server.stop()


#: pytest in the folder of the applications, apart from this project's configuration.
PYTEST = ("-m", "pytest", "-c", os.devnull, "--rootdir", str(APPS), "-p", "no:cacheprovider", "-q", "check_loop.py")


def run_pytest(*arguments):
    """Run pytest on the tests of the applications, and return its last line, without the time."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=APPS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return (done.stdout.splitlines() or [""])[-1].partition(" in ")[0], done.stdout


@pytest.mark.parametrize("command", [[*RUN, *PYTEST], [*PYTEST, "-p", "fastmux.pytest"]], ids=["run", "plugin"])
@pytest.mark.parametrize("workers", ["0", "2"])
def test_tests_run_on_fastmux(command, workers):
    last, output = run_pytest(*command, "-n", workers)

    assert last == "4 passed", output


def test_the_plugin_is_inactive_unless_it_is_requested():
    last, output = run_pytest(*PYTEST)

    assert last == "4 failed", output


@pytest.mark.parametrize(
    ("worker", "app"),
    [("UvicornWorker", "asgi:app"), ("ASGIWorker", "asgi:app"), ("GunicornWebWorker", "aiohttp_app:app")],
)
def test_a_worker_class_runs_gunicorn_on_fastmux(start, worker, app):
    assert start(*GUNICORN, "-k", f"fastmux.gunicorn.{worker}", app).fetch() == "fastmux.EventLoop"
