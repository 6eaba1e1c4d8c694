"""A private slapd on a free port, with people and groups."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.certificates import Authority
from lab.ports import free_port

SUFFIX = "dc=example,dc=org"
ADMIN_DN, ADMIN_PASSWORD = f"cn=admin,{SUFFIX}", "of the directory"
PASSWORD = "paßword of the directory"
_SCHEMAS = ("core", "cosine", "inetorgperson")


@dataclass
class DirectoryPeer:
    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        # For "localhost", libldap expects the name of this machine in the certificate.
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> str:
        return str(self.folder / "ca.pem")

    def start(self) -> None:
        command = [slapd() or "", "-d", "0", "-f", "slapd.conf", "-h", self.url]
        self.process = subprocess.Popen(command, cwd=self.folder)
        deadline = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < deadline, "slapd does not start"
            time.sleep(0.05)

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(30)
        self.process = None

    def suspend(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def change(self, ldif: str) -> None:
        lines = "\n".join(map(_encode_line, ldif.splitlines())) + "\n"
        environment = {**os.environ, "LDAPTLS_CACERT": self.ca_file}
        command = ["ldapmodify", "-x", "-ZZ", "-H", self.url, "-D", ADMIN_DN, "-w", ADMIN_PASSWORD]
        subprocess.run(
            command, input=lines.encode(), check=True, capture_output=True, env=environment
        )

    def _answers(self) -> bool:
        command = ["ldapsearch", "-x", "-H", self.url, "-b", "", "-s", "base"]
        return subprocess.run(command, capture_output=True).returncode == 0


def slapd() -> str | None:
    return shutil.which("slapd", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def directory() -> Iterator[DirectoryPeer]:
    """Run a directory with TLS; encryption is required for a bind with a password."""
    with tempfile.TemporaryDirectory(prefix="adit-slapd-") as name:
        peer = DirectoryPeer(Path(name), free_port())
        _write_configuration(peer)
        peer.start()
        try:
            peer.change(_entries())
            yield peer
        finally:
            if peer.process is not None:
                peer.stop()


def person(uid: str, given_name: str, surname: str, extra: str = "") -> str:
    return f"""dn: uid={uid},ou=people,{SUFFIX}
changetype: add
objectClass: inetOrgPerson
uid: {uid}
cn: {given_name} {surname}
givenName: {given_name}
sn: {surname}
mail: {len(uid)}@example.org
userPassword: {PASSWORD}
{extra}
"""


def _entries() -> str:
    return f"""dn: {SUFFIX}
changetype: add
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: ou=people,{SUFFIX}
changetype: add
objectClass: organizationalUnit
ou: people

dn: ou=groups,{SUFFIX}
changetype: add
objectClass: organizationalUnit
ou: groups

{person("müller", "Jürgen", "Müller", "employeeType: active")}
{person("left", "Lea", "Left", "employeeType: left")}
{person("coordinator", "Carla", "Other", "employeeType: active")}
dn: cn=Röntgen,ou=groups,{SUFFIX}
changetype: add
objectClass: groupOfNames
cn: Röntgen
member: uid=müller,ou=people,{SUFFIX}

dn: cn=canteen,ou=groups,{SUFFIX}
changetype: add
objectClass: groupOfNames
cn: canteen
member: uid=müller,ou=people,{SUFFIX}
"""


def _write_configuration(peer: DirectoryPeer) -> None:
    authority = Authority()
    (peer.folder / "ca.pem").write_text(authority.certificate)
    authority.issue("localhost").files(peer.folder, "server")
    (peer.folder / "data").mkdir()
    schemas = "\n".join(f"include /etc/ldap/schema/{name}.schema" for name in _SCHEMAS)
    (peer.folder / "slapd.conf").write_text(f"""{schemas}
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {peer.folder}/pid
security simple_bind=112
TLSCACertificateFile {peer.folder}/ca.pem
TLSCertificateFile {peer.folder}/server.crt
TLSCertificateKeyFile {peer.folder}/server.key
database mdb
suffix "{SUFFIX}"
rootdn "{ADMIN_DN}"
rootpw "{ADMIN_PASSWORD}"
directory {peer.folder}/data
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
""")


def _encode_line(line: str) -> str:
    """Write a value with umlauts in base64, as LDIF requires."""
    name, _, value = line.partition(": ")
    return line if line.isascii() else f"{name}:: {b64encode(value.encode()).decode()}"
