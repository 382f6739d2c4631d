"""nginx in a host, over HTTP and HTTPS, with a certificate of an authority of its own."""

from __future__ import annotations

from pathlib import Path

import trustme

from tests.system.lab import Host
from tests.system.process import Process
from tests.system.waiting import until

CONFIG = """
daemon off; master_process off; user root; pid {directory}/pid; error_log stderr;
events {{}}
http {{
    access_log off; default_type application/octet-stream;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    ssl_certificate {directory}/server.pem; ssl_certificate_key {directory}/server.pem; ssl_protocols TLSv1.3;
    server {{
        listen [::]:80 ipv6only=off; listen [::]:443 ssl http2; listen [::]:8443 ssl;
        root {directory}/www;
        add_header X-Request $connection_requests; add_header X-Reused "$ssl_session_reused";
        location /slow/ {{ alias {directory}/www/; limit_rate 4m; }}
        location /away {{ return 302 $arg_to; }}
    }}
}}
"""


class Web:
    """A web server.

    Attributes:
        files: directory of what it serves; below `/slow/` it is 4 MB/s. `/away?to=URL` leads to the URL.
        roots: certificate of who vouches for it.
    """

    def __init__(self, host: Host, directory: Path, *names: str) -> None:
        """Nothing runs yet; its certificate is for these names and addresses."""
        self.host = host
        self._directory = directory
        directory.chmod(0o755)
        directory.parent.chmod(0o755)
        self.files = directory / "www"
        self.files.mkdir()
        self.roots = directory / "roots.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.roots))
        authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))
        (directory / "nginx.conf").write_text(CONFIG.format(directory=directory))

    def start(self) -> Process:
        """Run it; returns when it answers."""
        process = self.host.start("nginx", "-p", str(self._directory), "-c", "nginx.conf")
        until(self._answers, "nginx answers")
        return process

    def _answers(self) -> bool:
        return self.host.outcome("curl", "--silent", "--output", "/dev/null", "http://[::1]/").code == 0
