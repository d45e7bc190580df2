"""A Kafka cluster that asks who we are and what we may: SASL over TLS with names and passwords, and KRaft's authorizer, which allows nothing that
no ACL says. Tests themselves come by listeners of its own, as an administrator."""
import shutil
import subprocess

import kafka
import pytest

TOPIC, GROUP = 2, 3  # of Kafka's protocol
READ, WRITE, CREATE, DELETE, DESCRIBE, DESCRIBE_CONFIGS = 3, 4, 5, 6, 8, 10
PREFIXED, ALLOW = 4, 3
# What docs/kafka.md says that we need.
RIGHTS = [*((TOPIC, right) for right in (CREATE, DESCRIBE, DESCRIBE_CONFIGS, READ, WRITE, DELETE)), (GROUP, READ), (GROUP, DESCRIBE)]
USER, PASSWORD = "west", "let me in"

CONF = kafka.CONF.replace("listeners=PLAINTEXT://{host}:{port}", "listeners=SASL_SSL://{host}:{secure},PLAINTEXT://{host}:{port}") + """\
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
ssl.keystore.type=PEM
ssl.keystore.location={base}/tls/node.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


def string(s):
    return len(s).to_bytes(2, "big") + s.encode()


class Secure(kafka.Cluster):
    def __init__(self, directory, nodes=3):
        super().__init__(directory, nodes)
        if not shutil.which("openssl"):
            pytest.skip("openssl is not installed (scripts/setup installs it)")
        self.secure = dict(enumerate(kafka.free_ports(nodes), 1))
        self.tls = self.dir / "tls"
        self.tls.mkdir(parents=True)
        for ca in ("ca", "other"):
            self.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={ca}", "-keyout", f"{ca}.key", "-out", f"{ca}.crt")
        self.openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=kafka", "-keyout", "node.key", "-out", "node.csr")
        (self.tls / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
        self.certify()

    def openssl(self, *args):
        subprocess.run(["openssl", *args], cwd=self.tls, check=True, capture_output=True)

    def certify(self, days=2):
        """days < 0: it has expired."""
        self.openssl("x509", "-req", "-in", "node.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", str(days), "-extfile", "ext", "-out", "node.crt")
        (self.tls / "node.pem").write_text((self.tls / "node.key").read_text() + (self.tls / "node.crt").read_text())

    @property
    def brokers(self):
        return ",".join(f"127.0.0.1:{p}" for p in self.secure.values())

    def configuration(self, i, **values):
        return CONF.format(secure=self.secure[i], user=USER, password=PASSWORD, **values)

    def properties(self, password=PASSWORD, ca="ca"):
        return ("security.protocol=sasl_ssl\nsasl.mechanism=PLAIN\nssl.endpoint.identification.algorithm=https\n"
                f"sasl.username={USER}\nsasl.password={password}\nssl.ca.location={self.tls}/{ca}.crt\n")

    # ---- ACLs ----

    def acls(self, api, rights, prefix):
        entries = b"".join(bytes([kind]) + string(prefix) + bytes([PREFIXED]) + string(f"User:{USER}") + string("*") + bytes([right, ALLOW]) for kind, right in rights)
        b = self.any(lambda i: self.ask(i, api, 1, len(rights).to_bytes(4, "big") + entries))
        assert b and int.from_bytes(b[8:10], "big") == 0, b

    def allow(self, prefix, rights=tuple(RIGHTS)):
        self.acls(30, rights, prefix)

    def take_away(self, prefix, *rights):
        self.acls(31, rights, prefix)
