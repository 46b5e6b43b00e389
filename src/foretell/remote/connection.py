"""The connection to Ray. This module does not import JAX."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from foretell.errors import UserError, brief

_QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed|has been marked dead|Raylet is terminated",
}
"""Environment variables of Ray: no warnings of future changes, the usual priority of processes, no long messages about
failures that are recovered."""


@contextmanager
def connected(address: str | None, option: str) -> Iterator[None]:
    """Connect to Ray, or start it on this machine.

    Args:
        address: address of a cluster, such as `auto`; by default that of this machine, which is started if there is
            none.
        option: the option with which the user asked for Ray, for messages.

    Raises:
        UserError: if Ray is missing or cannot be reached.
    """
    if find_spec("ray") is None:
        raise UserError(f"{option} needs Ray: pip install 'foretell[ray]'")
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    import ray

    was_connected = ray.is_initialized()
    try:
        if not was_connected:
            options = {} if address else {"include_dashboard": False}
            address = address or _cluster_here()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # JAX warns of processes that are forked to be replaced
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise UserError(f"cannot connect to Ray at '{address or 'this machine'}' ({brief(error)})") from None
    try:
        yield
    finally:
        if not was_connected:
            ray.shutdown()


def _cluster_here() -> str:
    """The address of the cluster on this machine; `local` (start one) if there is none or it was killed."""
    from ray._private import services, utils

    last = utils.read_ray_address()
    return last if last in services.find_gcs_addresses() else "local"
