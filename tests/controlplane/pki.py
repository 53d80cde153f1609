"""Keys and certificates for one control plane, new for each."""

import base64
import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = dt.timedelta(days=365)


@dataclass(frozen=True, kw_only=True)
class Pki:
    """The files of one control plane's keys, all in one folder."""

    folder: Path

    @property
    def ca(self) -> Path:
        """Return the certificate that clients of the API server trust."""
        return self.folder / "ca.crt"

    @property
    def certificate(self) -> Path:
        """Return the serving certificate of API server and controller-manager."""
        return self.folder / "server.crt"

    @property
    def key(self) -> Path:
        """Return the key of the serving certificate."""
        return self.folder / "server.key"

    @property
    def service_account_key(self) -> Path:
        """Return the key that signs ServiceAccount tokens."""
        return self.folder / "sa.key"

    @property
    def service_account_public_key(self) -> Path:
        """Return the key that proves ServiceAccount tokens."""
        return self.folder / "sa.pub"


@dataclass(frozen=True, kw_only=True)
class _Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def make_pki(folder: Path) -> Pki:
    """Write the API server's certificate and the ServiceAccount keys into folder, unless they are there."""
    pki = Pki(folder=folder)
    if pki.service_account_public_key.exists():
        return pki
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = _authority("striv-receiver control plane")
    names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    key, certificate = _serving_certificate(authority, names, addresses=["127.0.0.1", "10.0.0.1"])
    signing_key = ec.generate_private_key(ec.SECP256R1())
    _write(pki.ca, _pem(authority.certificate))
    _write(pki.certificate, _pem(certificate))
    _write(pki.key, _key_pem(key))
    _write(pki.service_account_key, _key_pem(signing_key))
    public = signing_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write(pki.service_account_public_key, public)
    return pki


def webhook_certificates(*, service: str, namespace: str) -> dict[str, str]:
    """Return the data (base64) of the Secret from which Tekton's webhook serves.

    The keys are knative's. Certificates that are valid for the Service are taken as they are.
    """
    authority = _authority(f"{service}.{namespace}.svc")
    names = [
        service,
        f"{service}.{namespace}",
        f"{service}.{namespace}.svc",
        f"{service}.{namespace}.svc.cluster.local",
    ]
    key, certificate = _serving_certificate(authority, names, addresses=[])
    data = {
        "ca-cert.pem": _pem(authority.certificate),
        "server-cert.pem": _pem(certificate),
        "server-key.pem": _key_pem(key),
    }
    return {name: base64.b64encode(value).decode() for name, value in data.items()}


def _authority(name: str) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _Authority(key=key, certificate=certificate)


def _serving_certificate(
    authority: _Authority, names: list[str], *, addresses: list[str]
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    certificate = (
        _builder(subject, authority.certificate.subject, key)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return key, certificate


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks step back now and then.
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
