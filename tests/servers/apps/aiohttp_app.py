"""An aiohttp application that answers with the class of its event loop."""

from aiohttp import web
from asgi import loop_class


async def answer(request):
    return web.Response(text=loop_class())


def make(arguments=()):
    """Return the application, for ``python -m aiohttp.web``."""
    app = web.Application()
    app.router.add_get("/", answer)
    return app


app = make()
