"""A real S3 server (moto) on the loopback for tests, and what runs against it need."""

import logging
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

BUCKET = "pictures"


@contextmanager
def s3_server() -> Iterator[str]:
    """Start a server and yield its address; skip where there is no moto."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    pytest.importorskip("flask_cors", reason="moto's server is not installed")
    module = "moto.moto_server.threaded_moto_server"
    moto = pytest.importorskip(module, reason="moto is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def environment(server: str) -> dict[str, str]:
    """Return the environment in which ``s3://`` is the server, and nothing else is asked."""
    return {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def emptied(server: str) -> None:
    """Have the server forget all that it was given."""
    request = urllib.request.Request(f"{server}/moto-api/reset", method="POST")
    with urllib.request.urlopen(request):
        pass
