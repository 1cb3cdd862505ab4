"""A real receiver of OTLP over gRPC, with TLS or without, that can be slow or refuse."""

from __future__ import annotations

import datetime
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Authority:
    """A throw-away authority, and one certificate of its own for a name."""

    def __init__(self, folder: Path, name: str) -> None:
        issuer_key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "throw-away")])
        own = _certificate(issuer, issuer, issuer_key.public_key())
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.file = folder / "authority.pem"
        self.file.write_bytes(_pem(own.sign(issuer_key, hashes.SHA256())))
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        certificate = _certificate(subject, issuer, key.public_key())
        certificate = certificate.add_extension(names, critical=False)
        self.credentials = grpc.ssl_server_credentials(
            [
                (
                    key.private_bytes(
                        serialization.Encoding.PEM,
                        serialization.PrivateFormat.PKCS8,
                        serialization.NoEncryption(),
                    ),
                    _pem(certificate.sign(issuer_key, hashes.SHA256())),
                )
            ]
        )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


class Collector:
    """Keeps the spans and metrics that arrive, and the headers they came with."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.delay = 0.0
        self.refuses = False
        self._lock = threading.Lock()
        self.clear()
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(
            _Service(self, "spans", trace_service_pb2.ExportTraceServiceResponse), self._server
        )
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(
            _Service(self, "metrics", metrics_service_pb2.ExportMetricsServiceResponse),
            self._server,
        )
        if credentials is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()

    def clear(self) -> None:
        """Forget what arrived so far."""
        with self._lock:
            self.spans: list[Any] = []
            self.metrics: list[Any] = []
            self.services: set[str] = set()
            self.headers: list[dict[str, str]] = []

    def names(self) -> set[str]:
        """The names of the spans that arrived."""
        with self._lock:
            return {span.name for span in self.spans}

    def close(self) -> None:
        """Stop receiving."""
        self._server.stop(grace=None).wait()

    def take(self, kind: str, request: Any, context: grpc.ServicerContext) -> None:
        """One export of either kind."""
        time.sleep(self.delay)
        if self.refuses:
            context.abort(grpc.StatusCode.UNAVAILABLE, "refused by the test")
        with self._lock:
            self.headers.append({key: str(value) for key, value in context.invocation_metadata()})
            resources = request.resource_spans if kind == "spans" else request.resource_metrics
            for resource in resources:
                attributes = {it.key: it.value.string_value for it in resource.resource.attributes}
                self.services.add(attributes.get("service.name", ""))
                scopes = resource.scope_spans if kind == "spans" else resource.scope_metrics
                for scope in scopes:
                    if kind == "spans":
                        self.spans.extend(scope.spans)
                    else:
                        self.metrics.extend(scope.metrics)


class _Service:
    def __init__(self, collector: Collector, kind: str, response: type) -> None:
        self._collector, self._kind, self._response = collector, kind, response

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._collector.take(self._kind, request, context)
        return self._response()
