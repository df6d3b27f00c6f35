"""A Django project whose view answers with the class of its event loop: WSGI, or ASGI if DAPHNE is set."""

import os
import sys

from asgi import loop_class
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import path

settings.configure(
    DEBUG=True,
    ROOT_URLCONF=__name__,
    ASGI_APPLICATION=f"{__name__}.application",
    INSTALLED_APPS=["daphne"] if "DAPHNE" in os.environ else [],
)


async def answer(request):
    return HttpResponse(loop_class())


urlpatterns = [path("", answer)]

if __name__ == "__main__":
    application = get_asgi_application()
    execute_from_command_line(sys.argv)
