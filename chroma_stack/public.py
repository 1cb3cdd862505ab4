"""The constructs, and what they are made with; ``chroma_stack`` has the same names."""

from chroma_stack.alarms import ChromaAlarms
from chroma_stack.auth import ChromaAuth, TokenHeader
from chroma_stack.backups import BackupSchedule
from chroma_stack.dashboard import ChromaDashboard
from chroma_stack.endpoint import Endpoint, IChromaServer
from chroma_stack.errors import SettingError
from chroma_stack.image import ChromaImage
from chroma_stack.instance import MachineImageId
from chroma_stack.monitoring import ChromaMonitoring
from chroma_stack.secrets import SecretArn
from chroma_stack.server import ChromaServer, ChromaServerOptions
from chroma_stack.stack import ChromaStack, ChromaStackOptions
from chroma_stack.tls import CertificateSource, ChromaTls, TlsMode
from chroma_stack.tracing import ChromaTracing
from chroma_stack.users import ChromaAccess, ChromaUser
from chroma_stack.version import ChromaVersion

__all__ = [
    "BackupSchedule",
    "CertificateSource",
    "ChromaAccess",
    "ChromaAlarms",
    "ChromaAuth",
    "ChromaDashboard",
    "ChromaImage",
    "ChromaMonitoring",
    "ChromaServer",
    "ChromaServerOptions",
    "ChromaStack",
    "ChromaStackOptions",
    "ChromaTls",
    "ChromaTracing",
    "ChromaUser",
    "ChromaVersion",
    "Endpoint",
    "IChromaServer",
    "MachineImageId",
    "SecretArn",
    "SettingError",
    "TlsMode",
    "TokenHeader",
]
