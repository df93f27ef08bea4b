"""The parts of a Kubernetes API server that concern service accounts, written from the API reference (2026):
authentication by a service account's token, `TokenRequest`, `TokenReview`, and a list of pods. It serves TLS with
`server.pem`. It is as strict as the API server, so the official client and this crate have to send the same."""

import ssl
import time
import uuid
from collections import defaultdict
from datetime import datetime, timezone

from flask import Flask, jsonify, request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from werkzeug.serving import make_server

ISSUER = "https://kubernetes.default.svc.cluster.local"
AUTHENTICATION = "authentication.k8s.io/v1"
SHORTEST = 600
LONGEST = 1 << 32

app = Flask("kubernetes_api")
key = ECKey.generate_key("P-256", private=True)
revoked = set()
# The tokens that each service account was issued, and the requests that it sent.
issued = defaultdict(int)
seen = defaultdict(list)


def status(code, reason, message):
    """Returns a failure as the API server does."""
    body = {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    }
    return jsonify(body), code


def new_token(namespace, name, audiences, seconds):
    now = int(time.time())
    claims = {
        "iss": ISSUER, "aud": audiences, "iat": now, "nbf": now, "exp": now + seconds, "jti": str(uuid.uuid4()),
        "sub": f"system:serviceaccount:{namespace}:{name}",
        "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid(namespace, name)}},
    }
    issued[name] += 1
    return jwt.encode({"alg": "ES256"}, claims, key), claims["exp"]


def uid(namespace, name):
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{namespace}/{name}"))


def claims_of(token, audiences):
    """Returns the claims of a valid token for one of the audiences, or else None."""
    try:
        claims = jwt.decode(token, key, algorithms=["ES256"]).claims
        jwt.JWTClaimsRegistry(exp={"essential": True}, iss={"essential": True, "value": ISSUER}).validate(claims)
    except (JoseError, ValueError):
        return None
    is_meant = set(claims["aud"]) & set(audiences)
    return claims if is_meant and claims["jti"] not in revoked else None


def caller():
    """Returns the name of the service account that sent the request, or else None."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    claims = claims_of(token, [ISSUER]) if scheme.lower() == "bearer" else None
    if claims is None:
        return None
    name = claims["sub"].rsplit(":", 1)[1]
    seen[name].append(f"{request.method} {request.path}")
    return name


def wrong(body, kind):
    """Returns what is wrong with the type of an object, or else None. Without a content type, the API server reads JSON;
    Kubernetes' own client for Python sends none."""
    if request.mimetype not in ("", "application/json"):
        return status(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
    if not isinstance(body, dict) or body.get("kind") not in (None, kind):
        return status(400, "BadRequest", f"the object provided is no {kind}")
    if body.get("apiVersion") not in (None, AUTHENTICATION):
        return status(400, "BadRequest", f"the API version in the data doesn't match {AUTHENTICATION}")
    return None


@app.get("/api/v1/namespaces/<namespace>/pods")
def pods(namespace):
    if caller() is None:
        return status(401, "Unauthorized", "Unauthorized")
    items = [{"metadata": {"name": "reports-0", "namespace": namespace}}]
    return jsonify({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})


@app.post("/api/v1/namespaces/<namespace>/serviceaccounts/<name>/token")
def token_request(namespace, name):
    sender = caller()
    if sender is None:
        return status(401, "Unauthorized", "Unauthorized")
    if sender == "guest":
        message = f'serviceaccounts "{name}" is forbidden: User "{sender}" cannot create resource "serviceaccounts/token"'
        return status(403, "Forbidden", message)
    body = request.get_json(force=True, silent=True)
    if (answer := wrong(body, "TokenRequest")) is not None:
        return answer
    spec = body.get("spec") or {}
    seconds = spec.get("expirationSeconds")
    seconds = 3600 if seconds is None else seconds
    if not isinstance(seconds, int) or not SHORTEST <= seconds <= LONGEST:
        return status(422, "Invalid", "spec.expirationSeconds: may not specify a duration less than 10 minutes")
    audiences = spec.get("audiences") or [ISSUER]
    token, exp = new_token(namespace, name, audiences, seconds)
    stamp = datetime.fromtimestamp(exp, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = {
        "kind": "TokenRequest", "apiVersion": AUTHENTICATION,
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": None},
        "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": None},
        "status": {"token": token, "expirationTimestamp": stamp},
    }
    return jsonify(answer), 201


@app.post("/apis/authentication.k8s.io/v1/tokenreviews")
def token_review():
    if caller() is None:
        return status(401, "Unauthorized", "Unauthorized")
    body = request.get_json(force=True, silent=True)
    if (answer := wrong(body, "TokenReview")) is not None:
        return answer
    audiences = body["spec"].get("audiences") or [ISSUER]
    claims = claims_of(body["spec"]["token"], audiences)
    if claims is None:
        result = {"authenticated": False, "error": "the token isn't valid for these audiences"}
    else:
        account = claims["kubernetes.io"]
        result = {
            "authenticated": True,
            "audiences": [audience for audience in audiences if audience in claims["aud"]],
            "user": {
                "username": claims["sub"], "uid": account["serviceaccount"]["uid"],
                "groups": ["system:serviceaccounts", f"system:serviceaccounts:{account['namespace']}"],
            },
        }
    return jsonify({"kind": "TokenReview", "apiVersion": AUTHENTICATION, "status": result}), 201


@app.get("/interop/token/<name>")
def mounted(name):
    """Returns a token as the kubelet mounts it into a pod."""
    return new_token("prod", name, [ISSUER], 3607)[0]


@app.post("/interop/revoke")
def revoke():
    revoked.add(jwt.decode(request.get_data(as_text=True), key, algorithms=["ES256"]).claims["jti"])
    return "revoked"


@app.post("/interop/check/<audience>")
def check(audience):
    """Returns the subject of a token that is valid for this audience."""
    claims = claims_of(request.get_data(as_text=True), [audience])
    return (claims["sub"], 200) if claims else ("not valid", 400)


@app.get("/interop/seen/<name>")
def seen_from(name):
    return jsonify(seen[name])


tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain("server.pem")
listener = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=tls)
print(f"listening on {listener.port}", flush=True)
listener.serve_forever()
