"""The contract between the core and the hardware: hook specs, and the typed objects they exchange.

This package imports nothing else of Inferplane, and no torch: a laptop without a device can read
every request, every answer and every layout. Import names from here, not from its modules.
"""

from typing import TYPE_CHECKING, Any

from .attention import AttentionKernel, AttentionLimits, AttentionMetadata
from .candidate import Candidate, Capture, Level, Packing, SettingProposal
from .communicator import Communicator, LinkTopology, TorchCommunicator
from .deprecated import DEPRECATED as _DEPRECATED
from .deprecated import accept_old_fields as _accept_old_fields
from .deprecated import old_name as _old_name
from .device import Device, DeviceProps, Event, Execution, MemoryInfo, Stream
from .dtypes import DTYPE_BITS, dtype_bytes, size_in_bytes
from .faults import Fault
from .graphs import GraphBackend, GraphHandle, TorchGraphs
from .hooks import HOOK_PREFIX, PROJECT, PROVISIONAL_HOOKS, InferplaneSpecs, hookimpl, hookspec
from .kernels import (
    AttentionInputKernel,
    BlockKernel,
    Dumpable,
    EmbeddingKernel,
    ExpertsKernel,
    HeadsLinearKernel,
    KVWriteKernel,
    LayerKernel,
    LinearKernel,
    RotaryKernel,
    RoutingKernel,
    SampleKernel,
)
from .kv import GroupKind, KVGroup, KVLayout, standard_layout
from .linear import TorchHeadsLinear, TorchLinear, TorchScaledLinear
from .mesh import Group, Mesh
from .models import FormatSpec, ModelSpec
from .moe import DispatchRequest, ExpertsRequest, MoEBlockRequest, RoutingRequest
from .ops import OPS, OpSchema
from .page_tables import PageTableAttention, PageTables
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
    EmbeddingRequest,
    GatedMLPRequest,
    GraphRequest,
    HeadsLinearRequest,
    KVWriteRequest,
    LatentBlockRequest,
    LayerRequest,
    LinearRequest,
    ModelRequest,
    NormRequest,
    Request,
    RotaryRequest,
    SampleRequest,
    TokenRange,
    TransferRequest,
)
from .sampling import LogitsProcessor, SampleInputs, SampleOutput
from .step import AttentionSlot, GroupStep, Step
from .support import Support
from .torch_build import torch_build
from .transfer import KVTransfer
from .tunable import Tunable
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
    "Execution",
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
    "HeadsLinearKernel",
    "HeadsLinearRequest",
    "InferplaneSpecs",
    "KVGroup",
    "KVLayout",
    "KVTransfer",
    "KVWriteKernel",
    "KVWriteRequest",
    "KiB",
    "LatentBlockRequest",
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
    "PageTableAttention",
    "PageTables",
    "PlatformSpec",
    "Probe",
    "QuantScheme",
    "Request",
    "RotaryKernel",
    "RotaryRequest",
    "RoutingKernel",
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
    "TorchCommunicator",
    "TorchGraphs",
    "TorchHeadsLinear",
    "TorchLinear",
    "TorchScaledLinear",
    "TransferRequest",
    "Tunable",
    "WeightPart",
    "WeightSource",
    "dtype_bytes",
    "hookimpl",
    "hookspec",
    "size_in_bytes",
    "standard_layout",
    "torch_build",
]

_accept_old_fields(globals(), _DEPRECATED)

if not TYPE_CHECKING:  # for type checkers, only the present names exist

    def __getattr__(name: str) -> Any:
        """Names that were renamed in this minor version still work."""
        return _old_name(name, globals(), _DEPRECATED)
