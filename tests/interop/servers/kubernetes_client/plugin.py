"""A credential plugin: prints the token of the file `token` as an `ExecCredential` of the version that is asked for."""

import json
import os
import pathlib
import sys

info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
assert info["kind"] == "ExecCredential" and info["spec"]["interactive"] is False, info
status = {"token": pathlib.Path(sys.argv[1]).read_text(), "expirationTimestamp": "2099-01-02T03:04:05Z"}
print(json.dumps({"kind": "ExecCredential", "apiVersion": info["apiVersion"], "spec": {}, "status": status}))
