"""A real directory: OpenLDAP's slapd with some people, on free ports. It takes anonymous binds, as careless ones do."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.identity.certificates import Certificates, make_certificates
from tests.support.ports import free_port

BASE = "dc=example,dc=org"
PEOPLE = f"ou=people,{BASE}"
GROUPS = f"ou=groups,{BASE}"
ADMINS = f"cn=admins,{GROUPS}"
SERVICE = f"cn=gateway,{BASE}"
SERVICE_PASSWORD = "service secret"
PASSWORD = "correct horse"
ADA_ID = "6f3b5a4e-0d7f-4d3e-9a59-3f3e0d0a0001"

START_SECONDS = 20

CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
pidfile {folder}/slapd.pid
TLSCACertificateFile {tls.authority}
TLSCertificateFile {tls.certificate}
TLSCertificateKeyFile {tls.key}
# A name with an empty password is let in, as nobody (RFC 4513, 5.1.2).
allow bind_anon_dn bind_anon_cred
database mdb
suffix "{base}"
rootdn "cn=root,{base}"
directory {folder}/db
overlay memberof
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree="{groups}" by dn.exact="{service}" read by self read by * none
access to * by * read
"""

PERSON = """
dn: uid={dn_uid},{people}
objectClass: inetOrgPerson
uid: {uid}
cn: {name}
sn: {name}
displayName: {name}
mail: {mail}
entryUUID: {uuid}
userPassword: {password}
"""

TREE = f"""dn: {BASE}
objectClass: domain
dc: example

dn: {PEOPLE}
objectClass: organizationalUnit
ou: people

dn: {GROUPS}
objectClass: organizationalUnit
ou: groups

dn: {SERVICE}
objectClass: applicationProcess
objectClass: simpleSecurityObject
cn: gateway
userPassword: {SERVICE_PASSWORD}

dn: {ADMINS}
objectClass: groupOfNames
cn: admins
member: uid=ada,{PEOPLE}
"""


@dataclass
class Directory:
    """A slapd. `url` has no TLS but on request (StartTLS); `secure_url` begins with it."""

    folder: Path
    tls: Certificates
    port: int
    secure_port: int
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def url(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def secure_url(self) -> str:
        return f"ldaps://127.0.0.1:{self.secure_port}"

    def start(self) -> None:
        """Start, and wait until it listens."""
        urls = f"ldap://127.0.0.1:{self.port}/ ldaps://127.0.0.1:{self.secure_port}/"
        command = [_program("slapd"), "-f", str(self.folder / "slapd.conf"), "-h", urls, "-d", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.secure_port)).close()
            except OSError:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Stop, if it runs."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait()
            self.process = None


@contextmanager
def running_directory(folder: Path) -> Iterator[Directory]:
    """Start a directory with some people in it; the test is skipped where there is none to start."""
    if not _program("slapd"):
        pytest.skip("needs slapd: apt-get install slapd")
    directory = Directory(folder, make_certificates(folder), free_port(), free_port())
    (folder / "db").mkdir()
    config = CONFIG.format(folder=folder, tls=directory.tls, base=BASE, groups=GROUPS, service=SERVICE)
    (folder / "slapd.conf").write_text(config)
    command = [_program("slapadd"), "-f", str(folder / "slapd.conf")]
    subprocess.run(command, input=(TREE + _people()).encode(), check=True, capture_output=True)
    directory.start()
    try:
        yield directory
    finally:
        directory.stop()


def _people() -> str:
    people = [
        ("ada", "ada", "Ada Lovelace", "ada@example.org", ADA_ID),
        ("bob", "bob", "Bob", "bob@example.org", "6f3b5a4e-0d7f-4d3e-9a59-3f3e0d0a0002"),
        ("o\\2cneil\\28*\\29", "o,neil(*)", "O'Neil", "o@example.org", "6f3b5a4e-0d7f-4d3e-9a59-3f3e0d0a0003"),
        ("twin1", "twin", "Twin One", "twin@example.org", "6f3b5a4e-0d7f-4d3e-9a59-3f3e0d0a0004"),
        ("twin2", "twin", "Twin Two", "twin@example.org", "6f3b5a4e-0d7f-4d3e-9a59-3f3e0d0a0005"),
    ]
    entries = [
        PERSON.format(
            dn_uid=dn_uid, uid=uid, name=name, mail=mail, uuid=uuid, people=PEOPLE, password=PASSWORD
        ).replace("\nuid: ", f"\nuid: {dn_uid}\nuid: " if "twin" in dn_uid else "\nuid: ", 1)
        for dn_uid, uid, name, mail, uuid in people
    ]
    entries[0] = entries[0].rstrip("\n") + f"\nmemberOf: {ADMINS}\n"
    return "".join(entries)


def _program(name: str) -> str:
    """Give the path of a server's program, which ordinary users do not have on their PATH."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])) or ""
