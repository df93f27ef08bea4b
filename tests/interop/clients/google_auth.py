"""Gets tokens with google-auth, Google's own client. The input is a JSON object: `host`, which all requests go to; a list
of `cases` with environment variables and scopes; and the `audience` of an ID token. The output has a token in each
line: one of each case, then the ID token."""

import json
import os
import sys
from urllib.parse import urlsplit

told = json.load(sys.stdin)
# The client reads these variables when it is imported.
os.environ.clear()
os.environ.update({"GCE_METADATA_HOST": told["host"], "GCE_METADATA_IP": told["host"]})

import google.auth
from google.auth.transport.requests import Request
from google.oauth2 import id_token


class Redirected(Request):
    """Sends each request to one server, which sees in `Host` where the request should have gone."""

    def __call__(self, url, headers=None, **arguments):
        address = urlsplit(url)
        headers = {**(headers or {}), "Host": address.netloc}
        url = address._replace(scheme="http", netloc=told["host"]).geturl()
        return super().__call__(url, headers=headers, **arguments)


request = Redirected()
for case in told["cases"]:
    variables = set(os.environ) - {"GCE_METADATA_HOST", "GCE_METADATA_IP"}
    for name in variables:
        del os.environ[name]
    os.environ.update(case["variables"])
    credentials, _ = google.auth.default(scopes=case["scopes"], request=request)
    credentials.refresh(request)
    print(credentials.token)
print(id_token.fetch_id_token(request, told["audience"]))
