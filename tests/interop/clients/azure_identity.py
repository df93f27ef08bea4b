"""Gets tokens with azure-identity, Microsoft's own client. The input is a JSON list of cases: the environment
variables, and the arguments of the credential. The output has the token of each case, one in a line."""

import json
import os
import sys

import msal.managed_identity
from azure.identity import ManagedIdentityCredential, WorkloadIdentityCredential

for case in json.load(sys.stdin):
    # Also removes the proxy of this machine.
    os.environ.clear()
    os.environ.update(case["variables"])
    # Only root can write in the folder of Azure Arc's agent.
    msal.managed_identity._supported_arc_platforms_and_their_prefixes["linux"] = case.get("arc_keys")
    kind = WorkloadIdentityCredential if "AZURE_FEDERATED_TOKEN_FILE" in os.environ else ManagedIdentityCredential
    with kind(**case["arguments"]) as credential:
        print(credential.get_token(case["scope"]).token)
