"""Authlib's authorization server for two grants that take a token. The first grant is a service account's assertion
(RFC 7523 §2.1), which Authlib implements. The second grant is token exchange (RFC 8693). This file implements it as an
Authlib extension grant, with Authlib's clients, errors and tokens. Access tokens are JWTs (RFC 9068)."""

import logging
from collections import Counter

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import BaseGrant, ClientMixin, InvalidRequestError, TokenEndpointMixin
from authlib.oauth2.rfc7523 import JWTBearerGrant
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from flask import Flask, jsonify, request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey
from werkzeug.serving import make_server

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
AUDIENCE = "https://api.example.com"

app = Flask("authlib_server")
clients = {}
issued = Counter()


def new_key():
    key = RSAKey.generate_key(2048, private=True, auto_kid=True)
    return KeySet([key])


keys = new_key()


class Client(ClientMixin):
    """The registration: `client_id`, and either a `client_secret` or the issuer and the `jwks` of the assertions."""

    def __init__(self, fields):
        self.fields = fields

    def get_client_id(self):
        return self.fields["client_id"]

    def get_allowed_scope(self, scope):
        return " ".join(word for word in (scope or "read").split() if word in ("read", "write"))

    def check_client_secret(self, secret):
        return self.fields.get("client_secret") == secret

    def check_endpoint_auth_method(self, method, endpoint):
        return method == self.fields.get("method", "client_secret_post")

    def check_grant_type(self, grant_type):
        return True


class Subject:
    def __init__(self, name):
        self.name = name

    def get_user_id(self):
        return self.name


class Tokens(JWTBearerTokenGenerator):
    def get_jwks(self):
        return keys

    def get_audiences(self, client, user, scope):
        return getattr(user, "audience", None) or AUDIENCE

    def get_extra_claims(self, client, grant_type, user, scope):
        actor = getattr(user, "actor", None)
        return {"act": {"sub": actor}} if actor else {}


class Assertion(JWTBearerGrant):
    def resolve_issuer_client(self, issuer):
        return next((client for client in clients.values() if client.fields.get("issuer") == issuer), None)

    def resolve_client_public_key(self, client):
        return KeySet.import_key_set(client.fields["jwks"])

    def authenticate_user(self, subject):
        return Subject(subject)

    def has_granted_permission(self, client, user):
        return True

    def get_audiences(self):
        return [request.url]


class Exchange(BaseGrant, TokenEndpointMixin):
    GRANT_TYPE = EXCHANGE
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "client_secret_post"]

    def read(self, name):
        """Returns the claims of a token. This server must have issued it, and it must be unexpired (RFC 8693 §2.1)."""
        form = self.request.form
        if form.get(f"{name}_token_type") != ACCESS_TOKEN:
            raise InvalidRequestError(f"The {name}_token_type isn't supported")
        try:
            claims = jwt.decode(form.get(f"{name}_token", ""), keys).claims
            jwt.JWTClaimsRegistry(exp={"essential": True}).validate(claims)
        except (JoseError, ValueError) as error:
            raise InvalidRequestError(f"The {name}_token isn't good") from error
        return claims

    def validate_token_request(self):
        self.request.client = self.authenticate_token_endpoint_client()
        self.request.user = subject = Subject(self.read("subject")["sub"])
        subject.audience = self.request.form.get("audience")
        if "actor_token" in self.request.form:
            subject.actor = self.read("actor")["sub"]

    def create_token_response(self):
        form = self.request.form
        token = self.generate_token(
            user=self.request.user, scope=form.get("scope", "read"), include_refresh_token=False
        )
        self.save_token(token)
        return 200, {**token, "issued_token_type": ACCESS_TOKEN}, self.TOKEN_RESPONSE_HEADER


def count(token, request):
    issued[request.client.get_client_id()] += 1


server = AuthorizationServer(app, query_client=clients.get, save_token=count)
server.register_grant(Assertion)
server.register_grant(Exchange)


@app.post("/token")
def token():
    return server.create_token_response()


@app.get("/.well-known/oauth-authorization-server")
def metadata():
    root = request.host_url.rstrip("/")
    return jsonify(issuer=root, token_endpoint=f"{root}/token", jwks_uri=f"{root}/jwks")


@app.get("/jwks")
def jwks():
    return jsonify(keys.as_dict(private=False))


@app.post("/interop/clients")
def register():
    client = Client(request.get_json(force=True))
    clients[client.get_client_id()] = client
    return jsonify(client.fields)


@app.get("/interop/issued/<client_id>")
def issued_to(client_id):
    return str(issued[client_id])


@app.post("/interop/rotate-keys")
def rotate_keys():
    """Replaces the signing key, so that all earlier tokens become invalid."""
    global keys
    keys = new_key()
    return "rotated"


logging.getLogger("werkzeug").setLevel(logging.INFO)
listener = make_server("127.0.0.1", 0, app, threaded=True)
server.register_token_generator("default", Tokens(issuer=f"http://127.0.0.1:{listener.port}"))
print(f"listening on {listener.port}", flush=True)
listener.serve_forever()
