"""A site with two logins: tokens of djangorestframework-simplejwt, and Django's own sessions.

Its database is in the folder where it is started. It records each request. A test reads the requests at `/-/seen`, and
deletes sessions and tokens at the other addresses below `/-/`.
"""

import json
import os
from datetime import timedelta
from http.cookies import SimpleCookie
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from django.conf import settings
from django.core.management import call_command

settings.configure(
    SECRET_KEY="known to everyone, trusted by no one, and as long as it has to be",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": "site.sqlite3",
            # If two threads write at the same time, the second waits.
            "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    # A fast hash, because no test needs strong passwords.
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "rest_framework",
        "rest_framework_simplejwt.token_blacklist",
    ],
    MIDDLEWARE=[
        __name__ + ".keep_what_is_asked",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    # Each request extends the session. So each response sets the cookie again.
    SESSION_SAVE_EVERY_REQUEST=True,
    SIMPLE_JWT={
        "ACCESS_TOKEN_LIFETIME": timedelta(minutes=5),
        "REFRESH_TOKEN_LIFETIME": timedelta(days=1),
        "ROTATE_REFRESH_TOKENS": True,
        "BLACKLIST_AFTER_ROTATION": True,
    },
    USE_TZ=True,
)

SEEN = []


def keep_what_is_asked(answer):
    """Records `POST /session/login 200` and the session cookie of each request."""

    def keep(request):
        response = answer(request)
        if not request.path.startswith("/-/"):
            cookie = SimpleCookie(request.headers.get("Cookie", "")).get("sessionid")
            SEEN.append(
                {
                    "line": f"{request.method} {request.path} {response.status_code}",
                    "session": cookie and cookie.value,
                }
            )
        return response

    return keep


django.setup()
call_command("migrate", verbosity=0)

from django.contrib.auth import authenticate, login, logout
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import InvalidToken
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

User.objects.create_user("me@example.com", password=os.environ["PASSWORD"])

ACCEPTED, REVOKED = set(), set()


class RevocableJWT(JWTAuthentication):
    """Makes access tokens revocable, which simplejwt alone doesn't support."""

    def get_validated_token(self, raw_token):
        token = super().get_validated_token(raw_token)
        if token["jti"] in REVOKED:
            raise InvalidToken("Token is revoked")
        ACCEPTED.add(token["jti"])
        return token


@api_view(["GET", "POST"])
@authentication_classes([RevocableJWT])
@permission_classes([IsAuthenticated])
def notes(request):
    return Response({"for": request.user.username, "sent": request.data})


@csrf_exempt
@require_POST
def log_in(request):
    sent = json.loads(request.body)
    user = authenticate(request, username=sent["username"], password=sent["password"])
    if user is None:
        return JsonResponse({"error_description": "Wrong name or password"}, status=401)
    login(request, user)
    return JsonResponse({"user": user.username})


@csrf_exempt
@require_POST
def log_out(request):
    logout(request)
    return HttpResponse(status=204)


def profile(request):
    if not request.user.is_authenticated:
        return JsonResponse({"error": "log in first"}, status=401)
    return JsonResponse({"for": request.user.username})


def seen(request):
    return JsonResponse(SEEN, safe=False)


def sessions(request):
    return JsonResponse(Session.objects.count(), safe=False)


@csrf_exempt
@require_POST
def flush_sessions(request):
    Session.objects.all().delete()
    return HttpResponse(status=204)


@csrf_exempt
@require_POST
def lock_everybody_out(request):
    User.objects.update(is_active=False)
    return HttpResponse(status=204)


@csrf_exempt
@require_POST
def revoke_access_tokens(request):
    REVOKED.update(ACCEPTED)
    return HttpResponse(status=204)


@csrf_exempt
@require_POST
def blacklist_refresh_tokens(request):
    for token in OutstandingToken.objects.all():
        BlacklistedToken.objects.get_or_create(token=token)
    return HttpResponse(status=204)


urlpatterns = [
    path("api/token/", TokenObtainPairView.as_view()),
    path("api/token/refresh/", TokenRefreshView.as_view()),
    path("api/notes/", notes),
    path("session/login", log_in),
    path("session/logout", log_out),
    path("session/profile", profile),
    path("-/seen", seen),
    path("-/sessions", sessions),
    path("-/flush-sessions", flush_sessions),
    path("-/lock-everybody-out", lock_everybody_out),
    path("-/revoke-access-tokens", revoke_access_tokens),
    path("-/blacklist-refresh-tokens", blacklist_refresh_tokens),
]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


from django.core.wsgi import get_wsgi_application

server = make_server("127.0.0.1", 0, get_wsgi_application(), Server, Quiet)
print(f"listening on {server.server_port}", flush=True)
server.serve_forever()
