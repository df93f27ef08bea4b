"""Kubernetes' own client for Python, in a pod and with a credential plugin. The first argument says how: `pod` reads
the pod's files in the current folder, and `exec` runs the plugin that the other arguments name. Prints the names of the
pods, and then a token for the audience `stock`."""

import sys

from kubernetes import client, config
from kubernetes.config.incluster_config import InClusterConfigLoader

way, arguments = sys.argv[1], sys.argv[2:]
settings = client.Configuration()
if way == "pod":
    InClusterConfigLoader("token", "ca.crt").load_and_set(settings)
else:
    server, version, *command = arguments
    plugin = {"apiVersion": version, "command": command[0], "args": command[1:], "interactiveMode": "Never"}
    config.load_kube_config_from_dict(
        {
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": "ca.crt"}}],
            "users": [{"name": "test", "user": {"exec": plugin}}],
        },
        client_configuration=settings,
    )
core = client.CoreV1Api(client.ApiClient(settings))
print(" ".join(pod.metadata.name for pod in core.list_namespaced_pod("prod").items))
wanted = client.AuthenticationV1TokenRequest(
    api_version="authentication.k8s.io/v1",
    kind="TokenRequest",
    spec=client.V1TokenRequestSpec(audiences=["stock"], expiration_seconds=600),
)
print(core.create_namespaced_service_account_token("reports", "prod", wanted).status.token)
