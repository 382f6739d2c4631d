"""Trust in whom the system trusts, wherever that keeps them."""

from __future__ import annotations

import truststore

from weft.clients.tls.connect import Resuming


class SystemRoots(Resuming, truststore.SSLContext):  # type: ignore[misc] # its get_ca_certs has another type
    """A client's context with the roots of the system."""
