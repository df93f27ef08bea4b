"""The toolkit's URLs below `/o`, a login, and test endpoints below `/interop`."""

import json
from collections import Counter

from django.contrib.auth.views import LoginView
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.http import HttpResponse, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider.models import AccessToken, Application
from oauth2_provider.urls import metadata_urlpatterns

#: How many tokens each client got.
issued = Counter()


@receiver(post_save, sender=AccessToken)
def count(instance, created, **_):
    issued[instance.application.client_id] += created


@csrf_exempt
def clients(request):
    """Registers the client that the JSON body describes. The response contains its id and its secret."""
    fields = json.loads(request.body)
    application = Application(**fields)
    # Saving replaces the secret with its hash.
    secret = application.client_secret
    application.save()
    return JsonResponse({"client_id": application.client_id, "client_secret": secret})


def issued_to(request, client_id):
    return HttpResponse(issued[client_id])


@csrf_exempt
def revoke_all(request, client_id):
    """Ends all sessions of a client, as an administrator would."""
    deleted, _ = AccessToken.objects.filter(application__client_id=client_id).delete()
    return HttpResponse(deleted)


urlpatterns = [
    path("o/", include("oauth2_provider.urls")),
    # RFC 8414 puts the metadata at the root, also for an issuer with a path.
    *metadata_urlpatterns,
    path("accounts/login/", LoginView.as_view()),
    path("interop/clients", clients),
    path("interop/issued/<str:client_id>", issued_to),
    path("interop/revoke-all/<str:client_id>", revoke_all),
]
