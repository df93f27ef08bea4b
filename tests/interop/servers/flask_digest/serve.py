"""Flask-HTTPAuth's Digest authentication (RFC 7616), for one account."""

import logging
import secrets

from flask import Flask, request
from flask_httpauth import HTTPDigestAuth
from werkzeug.serving import make_server

PASSWORDS = {"mufasa": "Circle of Life", "nala": "He lives in you"}

app = Flask(__name__)
nonces = set()
statuses = []
# Flask's session is not used, because it would set a cookie.
auth = HTTPDigestAuth(realm="digest@example.org", qop="auth")


@auth.generate_nonce
def generate_nonce():
    nonce = secrets.token_urlsafe(16)
    nonces.add(nonce)
    return nonce


@auth.verify_nonce
def verify_nonce(nonce):
    return nonce in nonces


@auth.generate_opaque
def generate_opaque():
    return "opaque"


@auth.verify_opaque
def verify_opaque(opaque):
    return opaque == "opaque"


@auth.get_password
def get_password(user):
    return PASSWORDS.get(user)


@app.route("/things", methods=["GET", "POST"])
@auth.login_required
def things():
    return f"{auth.current_user()} {request.args.get('page', '-')}"


@app.after_request
def remember(response):
    if request.path == "/things":
        statuses.append(f"{request.authorization and request.authorization.username}:{response.status_code}")
    return response


@app.get("/interop/statuses/<user>")
def statuses_of(user):
    """Returns the statuses of an account's requests, including requests that named no account."""
    return " ".join(status.rsplit(":")[1] for status in statuses if status.split(":")[0] in (user, "None"))


@app.post("/interop/forget-nonces")
def forget_nonces():
    nonces.clear()
    return "forgotten"


logging.getLogger("werkzeug").setLevel(logging.ERROR)
listener = make_server("127.0.0.1", 0, app, threaded=True)
print(f"listening on {listener.port}", flush=True)
listener.serve_forever()
