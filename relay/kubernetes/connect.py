"""Makes the client of the API server: from the pod's own mount, or from a kubeconfig."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx2
from lightkube import AsyncClient
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.config.models import Cluster, User
from lightkube.core.exceptions import ConfigError
from yaml import YAMLError

from relay.kubernetes.api import Api
from relay.kubernetes.options import ApiOptions
from relay.kubernetes.transport import ApiTransport
from relay.primitives.errors import UsageError

__all__ = ["connected"]


@asynccontextmanager
async def connected(options: ApiOptions, namespace: str) -> AsyncIterator[Api]:
    """Yield the calls to one namespace; nothing is connected before the first.

    Raises:
        UsageError: the server, its certificate authority or the kubeconfig can not be used.
    """
    config = _config(options)
    url = urlsplit(config.cluster.server)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise UsageError(f"API server {config.cluster.server[:80]!r}: expected https://HOST:PORT")
    user = config.user or User()
    try:
        context = verify_cluster(config.cluster, user, config.abs_file, trust_env=False)
    except (OSError, ssl.SSLError, ValueError, ConfigError) as error:
        file = config.cluster.certificate_auth or "of the kubeconfig"
        raise UsageError(f"the API server's certificate authority {file} can not be read: {error}") from None
    # Python 3.13 began to demand extensions that authorities of real clusters lack (EKS: no key identifiers).
    # Chain, dates and name are checked as before.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    port = url.port or (443 if url.scheme == "https" else 80)
    transport = ApiTransport(url.hostname, port, context)
    client = AsyncClient(
        config=config._replace(user=user),
        namespace=namespace,
        timeout=httpx2.Timeout(options.timeout),
        trust_env=False,  # neither proxies nor a home folder's files
        transport=transport,
    )
    api = Api(client, transport, namespace)
    try:
        yield api
    finally:
        await api.close()


def _config(options: ApiOptions) -> SingleConfig:
    try:
        if options.kubeconfig is not None:
            found = KubeConfig.from_file(options.kubeconfig).get()
            if found is None:
                raise UsageError(f"--kubeconfig {options.kubeconfig}: it has no current context")
            return found
    except (LookupError, TypeError, AttributeError):  # lightkube trusts the shape of the file
        raise UsageError(
            f"--kubeconfig {options.kubeconfig}: expected clusters, contexts and users, each a list of names"
        ) from None
    except (ConfigError, YAMLError, OSError, ValueError) as error:
        raise UsageError(f"--kubeconfig {options.kubeconfig}: {str(error)[:200]}") from None
    if not options.host:
        raise UsageError(
            "this is no pod: KUBERNETES_SERVICE_HOST is not set. Elsewhere give --kubeconfig FILE"
        )
    host = f"[{options.host}]" if ":" in options.host else options.host
    cluster = Cluster(
        server=f"https://{host}:{options.port}", certificate_auth=str(options.account / "ca.crt")
    )
    # The token's file, not its text: kubelet renews it, and lightkube reads it again at a 401.
    user = User(token_file=str(options.account / "token"))
    single = KubeConfig.from_one(cluster=cluster, user=user).get()
    assert single is not None
    return single
