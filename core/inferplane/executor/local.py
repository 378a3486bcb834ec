"""One rank in this process."""

from __future__ import annotations

from collections.abc import Callable

import torch

from inferplane.activity import Activity, Board
from inferplane.batch import Batch, StepResult
from inferplane.formats.checkpoint import Checkpoint
from inferplane.formats.dummy import DummyStore
from inferplane.formats.gguf_checkpoint import open_checkpoint
from inferplane.formats.online import OnlineStore
from inferplane.formats.store import QuantizedStore
from inferplane.layers.builder import Builder
from inferplane.layers.source import SharedTensors, SiteSource, TensorStore
from inferplane.planning.plan import Plan
from inferplane.plugins.binding import bind
from inferplane.plugins.blame import blame
from inferplane.plugins.site import Site
from inferplane.runner.launched import Launched
from inferplane.runner.runner import Runner
from inferplane.spec import AttentionLimits, Device, Fault, GiB, WeightPart
from inferplane.spec.torch_types import torch_dtype

from .base import Done, Executor, Pending

Progress = Callable[[int, int], None]


class LocalPending(Pending):
    """A batch that the device computes while the host goes on."""

    def __init__(self, executor: LocalExecutor, batch: Batch, launched: Launched) -> None:
        self.executor, self.step, self.launched = executor, batch.step, launched

    def result(self) -> StepResult:
        activity = self.executor.activity
        activity.begin(self.step)
        activity.enter("wait for the device")
        try:
            return self.launched.result()
        except Exception as error:
            self.executor.noted(error)
            raise
        finally:
            activity.end()


class LocalExecutor(Executor):
    """Loads the model, and launches batches on this process's device.

    depth: 2 where the device works behind the host: a step is scheduled while the last one runs.
    """

    def __init__(
        self, plan: Plan, progress: Progress | None = None, activity: Activity | None = None
    ) -> None:
        """progress: called with (bytes read, bytes in all) while weights are loaded. activity: is
        told what this rank does."""
        if plan.effective["threads"]:
            torch.set_num_threads(plan.effective["threads"])
        self.plan = plan
        self.activity = activity or Activity(Board(1))
        self.device = plan.catalog.device()
        self.device.activate()
        self.runner = load_runner(plan, self.device, progress, self.activity)
        self.device.empty_cache()  # what loading needed for a moment
        self.depth = 2 if self.runner.transfers.overlaps else 1
        self.activity.end()

    def launch(self, batch: Batch) -> Pending:
        self.activity.begin(batch.step)
        try:
            pending = LocalPending(self, batch, self.runner.launch(batch))
            if self.depth == 1:  # nobody launches more meanwhile
                return Done(pending.launched.result())
            return pending
        except Exception as error:
            self.noted(error)
            raise
        finally:
            self.activity.end()

    def noted(self, error: Exception) -> Exception:
        """The error, with the kernel that it was raised in."""
        culprit = blame(error, self.plan.resolution.choices.values())
        if culprit:
            error.add_note(culprit)
        return error

    def fault(self, error: BaseException) -> Fault:
        return self.device.fault(error)

    def settle(self) -> None:
        self.device.synchronize()
        self.device.empty_cache()

    def memory(self) -> str:
        found = self.plan.catalog.memory()
        return f"{found.free_bytes / GiB:.2f} of {found.total_bytes / GiB:.2f} GiB are free"


def load_runner(
    plan: Plan, device: Device, progress: Progress | None, activity: Activity | None = None
) -> Runner:
    """Reads the weights, prepares them for the chosen kernels, and allocates the KV cache."""
    target = device.torch_device
    store = open_store(plan, target)
    counted = Counted(store, plan.root, progress) if progress else store
    context = plan.context()
    context.resolution = plan.resolution
    context.device = target
    shared = SharedTensors(plan.root)
    context.source = lambda site: SiteSource(site, counted, target, shared)
    with torch.inference_mode():
        model = plan.model_class(plan.config, Builder(context))
    if isinstance(store, Checkpoint | QuantizedStore | OnlineStore):
        store.close()
    plain, full = (bind(choice) for choice in plan.samplers)
    limits = AttentionLimits(
        max_rows=plan.effective["max_num_seqs"],
        max_tokens=plan.effective["max_num_batched_tokens"],
        max_context=plan.effective["max_model_len"],
    )
    runner = Runner(
        model,
        device,
        plan.groups,
        context.groups.slots,
        limits,
        (plain, full),
        plan.config.vocab,
        activity,
        plan.effective["check_numerics"],
        plan.effective["overlap"],
        bind(plan.graph) if plan.graph else None,
    )
    runner.allocate(plan.budget.pages)
    return runner


def open_store(
    plan: Plan, target: torch.device
) -> Checkpoint | QuantizedStore | OnlineStore | DummyStore:
    """The checkpoint, checked against the model; or random numbers."""
    if plan.effective["load_format"] == "dummy":
        return DummyStore(target, torch_dtype(plan.effective["dtype"]))
    checkpoint, quantization = open_checkpoint(plan.folder), plan.quantization
    store: Checkpoint | QuantizedStore | OnlineStore = checkpoint
    if quantization.format is not None:
        store = QuantizedStore(checkpoint, quantization.format)
    elif quantization.online is not None:
        store = OnlineStore(checkpoint, quantization.online)
    tied = any(need.tied_to for need in plan.root.needs())
    store.check(plan.root.needs(), tied, ignored=getattr(plan.config, "ignored", ()))
    return store


class Counted:
    """A store that reports how much of the model was read."""

    def __init__(self, store: TensorStore, root: Site, progress: Progress) -> None:
        self.store, self.progress = store, progress
        self.total = sum(need.bytes for need in root.needs() if not need.tied_to)
        self.read_bytes = 0

    def read(self, part: WeightPart) -> torch.Tensor:
        tensor = self.store.read(part)
        self.read_bytes = min(self.total, self.read_bytes + tensor.nbytes)
        self.progress(self.read_bytes, self.total)
        return tensor
