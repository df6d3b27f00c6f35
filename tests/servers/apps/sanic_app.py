"""A Sanic application that answers with the class of its event loop."""

from asgi import loop_class
from sanic import Sanic, text

app = Sanic("LoopClass")


@app.get("/")
async def answer(request):
    return text(loop_class())
