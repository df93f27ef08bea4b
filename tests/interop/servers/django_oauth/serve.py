"""Starts the project on a free port, and prints the port."""

import os

import django
from django.conf import settings
from django.core.management import call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
server = ThreadedWSGIServer(("127.0.0.1", 0), WSGIRequestHandler)
port = server.server_address[1]
# The issuer has a path, like most issuers that share their host with other services.
issuer = f"http://127.0.0.1:{port}/o"
settings.OAUTH2_PROVIDER["OIDC_ISS_ENDPOINT"] = issuer
settings.OAUTH2_PROVIDER["OAUTH_DEVICE_VERIFICATION_URI"] = f"{issuer}/device/"
django.setup()
call_command("migrate", verbosity=0)

from django.contrib.auth.models import User  # noqa: E402, there are no models before

User.objects.create_user("ada", password="countess")
server.set_app(get_wsgi_application())
print(f"listening on {port}", flush=True)
server.serve_forever()
