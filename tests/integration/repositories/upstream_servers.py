"""Real servers of repositories for tests: sshd of OpenSSH, and nginx with git-http-backend."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 10.0
TOKEN = "hunter2-" + "x" * 20


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text() if log.exists() else "it has ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on {port}")


def _program(name: str, *others: str) -> str:
    for each in (name, *others):
        if found := shutil.which(each, path=f"{os.environ['PATH']}:/usr/sbin:/usr/lib/git-core:/usr/libexec/git-core"):
            return found
    raise AssertionError(f"{name} is needed for these tests")


@dataclass(frozen=True)
class SshUpstream:
    """A running sshd. `key` is the text of a private key that it lets in."""

    home: Path
    port: int
    key: str

    @property
    def host_key(self) -> str:
        """The line of known_hosts(5) of the server."""
        kind, text, *_ = (self.home / "host_key.pub").read_text().split()
        return f"[127.0.0.1]:{self.port} {kind} {text}"

    def url(self, repository: Path) -> str:
        return f"ssh://{pwd.getpwuid(os.getuid()).pw_name}@127.0.0.1:{self.port}{repository}"

    def change_host_key(self) -> None:
        """Give the server another key, as somebody in the middle would have."""
        _key(self.home / "other_key")
        for ending in ("", ".pub"):
            (self.home / f"other_key{ending}").replace(self.home / f"host_key{ending}")


def _key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.read_text()


@contextmanager
def ssh_upstream(home: Path, forced: str = "") -> Iterator[SshUpstream]:
    """An sshd in `home`; with `forced`, every connection runs that command instead of git's."""
    home.mkdir(parents=True, exist_ok=True)
    _key(home / "host_key")
    key = _key(home / "key")
    (home / "authorized").write_text((home / "key.pub").read_text())
    port = free_port()
    Path("/run/sshd").mkdir(exist_ok=True) if os.getuid() == 0 else None
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {home}/host_key",
        f"AuthorizedKeysFile {home}/authorized",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "StrictModes no",
        "UsePAM no",
        f"PidFile {home}/pid",
        *([f"ForceCommand {forced}"] if forced else []),
    ]
    (home / "config").write_text("\n".join(lines) + "\n")
    log = home / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [_program("sshd"), "-D", "-e", "-f", str(home / "config")], stdout=output, stderr=output
        )
    try:
        _wait_for(port, process, log)
        yield SshUpstream(home, port, key)
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class HttpsUpstream:
    """A running nginx. `authority` is the file of the certificate that its clients must trust.

    Below /open/ everybody may fetch, below /closed/ and /acme/ whoever has the token, who may also push. /away/
    redirects to /open/.
    """

    home: Path
    port: int
    authority: Path

    def url(self, repository: Path, area: str = "open") -> str:
        return f"https://localhost:{self.port}/{area}/{repository.name}"

    @property
    def requests(self) -> list[str]:
        """The requests so far: the user, the method and the path, and the status."""
        return (self.home / "access.log").read_text().splitlines()


_NGINX = """\
daemon off;
worker_processes 1;
pid {home}/pid;
error_log {home}/error.log;
{user}
events {{ worker_connections 64; }}
http {{
  log_format plain '$remote_user $request_method $request_uri $status "$http_authorization"';
  access_log {home}/access.log plain;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    server_name localhost;
    ssl_certificate {home}/cert.pem;
    ssl_certificate_key {home}/key.pem;
    location /api/ {{ proxy_pass https://127.0.0.1:{interface}; }}
    location ~ ^/(open|closed|acme)(/.*)$ {{
      set $area $1; set $path $2;
      {auth}
      client_max_body_size 0;
      fastcgi_pass unix:{home}/cgi.sock;
      include {home}/params;
    }}
    location ~ ^/away/(.*)$ {{ return 302 https://localhost:{port}/open/$1$is_args$args; }}
    location /stall/ {{ proxy_pass http://127.0.0.1:{dead}; proxy_read_timeout 600s; }}
  }}
}}
"""
_PARAMS = """\
fastcgi_param SCRIPT_FILENAME {backend};
fastcgi_param GIT_PROJECT_ROOT {root};
fastcgi_param GIT_HTTP_EXPORT_ALL 1;
fastcgi_param GIT_PROTOCOL $http_git_protocol;
fastcgi_param PATH_INFO $path;
fastcgi_param REMOTE_USER $remote_user;
fastcgi_param QUERY_STRING $query_string;
fastcgi_param REQUEST_METHOD $request_method;
fastcgi_param CONTENT_TYPE $content_type;
fastcgi_param CONTENT_LENGTH $content_length;
fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;
fastcgi_param SERVER_PROTOCOL $server_protocol;
"""


@contextmanager
def https_upstream(
    home: Path, root: Path, stalled_port: int = 9, *, token: str = TOKEN, interface: int = 9
) -> Iterator[HttpsUpstream]:
    """An nginx in `home` that serves the repositories in `root`, and below /api/ what listens on port `interface`."""
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(home / "key.pem"), "-out", str(home / "cert.pem")]
    making = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run([*making, "-days", "2", *files, *subject], check=True, capture_output=True)
    password = subprocess.run(["openssl", "passwd", "-apr1", token], check=True, capture_output=True, text=True)
    (home / "users").write_text(f"x-access-token:{password.stdout.strip()}\n")
    backend = _program("git-http-backend")
    (home / "params").write_text(_PARAMS.format(backend=backend, root=root))
    realm = 'set $realm "r"; if ($area = open) { set $realm off; }'
    auth = f"auth_basic_user_file {home}/users; {realm} auth_basic $realm;"
    user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
    text = _NGINX.format(home=home, port=port, auth=auth, user=user, dead=stalled_port, interface=interface)
    (home / "nginx.conf").write_text(text)
    environment = {
        **os.environ,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }
    cgi = subprocess.Popen([_program("fcgiwrap"), "-s", f"unix:{home}/cgi.sock", "-c", "4"], env=environment)
    log = home / "error.log"
    try:
        end = time.monotonic() + _SECONDS
        while not (home / "cgi.sock").exists():
            assert time.monotonic() < end, "fcgiwrap does not listen"
            time.sleep(0.01)
        nginx = subprocess.Popen([_program("nginx"), "-e", str(log), "-p", str(home), "-c", str(home / "nginx.conf")])
        try:
            _wait_for(port, nginx, log)
            yield HttpsUpstream(home, port, home / "cert.pem")
        finally:
            nginx.terminate()
            nginx.wait()
    finally:
        cgi.terminate()
        cgi.wait()
