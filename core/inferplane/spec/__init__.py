"""The contract between the core and the hardware: hook specs, and the typed objects they exchange.

This package imports nothing else of Inferplane, and no torch: a laptop without a device can read
every request, every answer and every layout. Import names from here, not from its modules.
"""

from .attention import AttentionKernel, AttentionLimits, AttentionMetadata
from .candidate import Candidate, Capture, Level, Packing, SettingProposal
from .communicator import Communicator, LinkTopology
from .device import Device, DeviceProps, Event, MemoryInfo, Stream
from .dtypes import DTYPE_BITS, dtype_bytes, size_in_bytes
from .faults import Fault
from .graphs import GraphBackend, GraphHandle
from .hooks import HOOK_PREFIX, PROJECT, PROVISIONAL_HOOKS, InferplaneSpecs, hookimpl, hookspec
from .kernels import (
    AttentionInputKernel,
    BlockKernel,
    Dumpable,
    EmbeddingKernel,
    ExpertsKernel,
    KVWriteKernel,
    LayerKernel,
    LinearKernel,
    RotaryKernel,
    SampleKernel,
)
from .kv import GroupKind, KVGroup, KVLayout, standard_layout
from .mesh import Group, Mesh
from .models import FormatSpec, ModelSpec
from .ops import OPS, OpSchema
from .platform import FeatureSpec, PlatformSpec
from .probe import Probe
from .quant import UNQUANTIZED, QuantScheme
from .requests import (
    ANY_TOKENS,
    ActivationRequest,
    AttentionBlockRequest,
    AttentionInputRequest,
    AttentionRequest,
    CollectiveRequest,
    DispatchRequest,
    EmbeddingRequest,
    ExpertsRequest,
    GatedMLPRequest,
    GraphRequest,
    KVWriteRequest,
    LayerRequest,
    LinearRequest,
    ModelRequest,
    MoEBlockRequest,
    NormRequest,
    Request,
    RotaryRequest,
    RoutingRequest,
    SampleRequest,
    TokenRange,
    TransferRequest,
)
from .sampling import LogitsProcessor, SampleInputs, SampleOutput
from .step import AttentionSlot, GroupStep, Step
from .support import Support
from .transfer import KVTransfer
from .units import GiB, KiB, MiB
from .version import ENTRY_POINT_GROUP, SPEC_VERSION
from .weights import Packed, WeightPart, WeightSource

__all__ = [
    "ANY_TOKENS",
    "DTYPE_BITS",
    "ENTRY_POINT_GROUP",
    "HOOK_PREFIX",
    "OPS",
    "PROJECT",
    "PROVISIONAL_HOOKS",
    "SPEC_VERSION",
    "UNQUANTIZED",
    "ActivationRequest",
    "AttentionBlockRequest",
    "AttentionInputKernel",
    "AttentionInputRequest",
    "AttentionKernel",
    "AttentionLimits",
    "AttentionMetadata",
    "AttentionRequest",
    "AttentionSlot",
    "BlockKernel",
    "Candidate",
    "Capture",
    "CollectiveRequest",
    "Communicator",
    "Device",
    "DeviceProps",
    "DispatchRequest",
    "Dumpable",
    "EmbeddingKernel",
    "EmbeddingRequest",
    "Event",
    "ExpertsKernel",
    "ExpertsRequest",
    "Fault",
    "FeatureSpec",
    "FormatSpec",
    "GatedMLPRequest",
    "GiB",
    "GraphBackend",
    "GraphHandle",
    "GraphRequest",
    "Group",
    "GroupKind",
    "GroupStep",
    "InferplaneSpecs",
    "KVGroup",
    "KVLayout",
    "KVTransfer",
    "KVWriteKernel",
    "KVWriteRequest",
    "KiB",
    "LayerKernel",
    "LayerRequest",
    "Level",
    "LinearKernel",
    "LinearRequest",
    "LinkTopology",
    "LogitsProcessor",
    "MemoryInfo",
    "Mesh",
    "MiB",
    "MoEBlockRequest",
    "ModelRequest",
    "ModelSpec",
    "NormRequest",
    "OpSchema",
    "Packed",
    "Packing",
    "PlatformSpec",
    "Probe",
    "QuantScheme",
    "Request",
    "RotaryKernel",
    "RotaryRequest",
    "RoutingRequest",
    "SampleInputs",
    "SampleKernel",
    "SampleOutput",
    "SampleRequest",
    "SettingProposal",
    "Step",
    "Stream",
    "Support",
    "TokenRange",
    "TransferRequest",
    "WeightPart",
    "WeightSource",
    "dtype_bytes",
    "hookimpl",
    "hookspec",
    "size_in_bytes",
    "standard_layout",
]
