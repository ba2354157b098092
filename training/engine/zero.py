"""The engine over DeepSpeed's ZeRO stages 1 to 3 (Rajbhandari et al., 2020). The only file that imports deepspeed.

Stage 1 spreads the optimizer's state over ranks, stage 2 the reduced gradients too, stage 3 the parameters too.
Parameters are fp32 in all of them, so DeepSpeed's own half-precision paths, and their traps, are never entered.
`_fragment` is where this file reaches into DeepSpeed: it finds the part of a parameter's master and moments that this
rank holds. DeepSpeed's own `safe_set_full_*` fails at stage 3 when ranks do not divide a parameter, so it is not used.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pipeline.errors import RecipeError
from pipeline.log import get_logger
from training.engine.body import Body, on_device, outputs_of
from training.engine.full_state import buffers_of, checked, load_buffers
from training.engine.interface import Fragment, Outputs, StepInfo
from training.engine.reached import BELOW, OF_PACKAGE, OLDEST, lacking, require, words
from training.engine.settings import EngineSettings
from training.engine.update.guarded import Guard
from training.engine.update.spans import Span
from training.ranks.peers import Peers, ensure_group
from training.rows import Rows

if TYPE_CHECKING:
    from training.towers.towers import Towers

log = get_logger("engine")


class DeepSpeedEngine:
    """See `training.engine.interface.Engine`."""

    def __init__(self, towers: "Towers", settings: EngineSettings, optimizer: Guard, peers: Peers) -> None:
        deepspeed = _deepspeed(peers.device)
        ensure_group(peers)
        self.settings = settings
        self.peers = peers
        self.device = peers.device
        self.towers = towers
        self.optimizer_steps = 0
        self._partitioned = settings.zero_stage == 3  # parameters too, not only what the optimizer keeps
        self._optimizer, self.moments = optimizer, optimizer.moments
        self._shapes = {name: tuple(parameter.shape) for name, parameter in towers.named_parameters()}
        self._names = {id(parameter): name for name, parameter in towers.named_parameters()}
        elements = sum(parameter.numel() for parameter in towers.parameters())
        body = Body(towers, settings.precision).train()
        self._engine, *_ = deepspeed.initialize(model=body, optimizer=optimizer, config=_config(settings, elements))
        trained = [parameter for parameter in towers.parameters() if parameter.requires_grad]
        require(lacking(self._engine, trained, settings.zero_stage), deepspeed.__version__)
        peers.share_timeout()
        self._zero = self._engine.optimizer
        optimizer.may_step, optimizer.layout, optimizer.all_sum = self._norm_is_finite, self._layout, peers.all_sum
        optimizer.make_state(self._masters(), lambda master: self._layout(master)[0].name)

    def scalars(self) -> dict[str, float]:
        # Below the persistence threshold stage 3 never puts a parameter away, not even in a skipped step.
        return {name: parameter.item() for name, parameter in self.towers.scalars().items()}

    def forward(self, rows: Rows, want: frozenset[str]) -> Outputs:
        return outputs_of(self._engine(on_device(rows, self.device), want))

    @torch.no_grad()
    def evaluate(self, rows: Rows, want: frozenset[str]) -> Rows:
        self._engine.eval()
        found = self.forward(rows, want).features
        self._engine.train()
        return found

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        with self._engine.coalesce_grad_reduction():
            try:
                yield
            except BaseException:
                # DeepSpeed reduces also on the way out of an error: a collective that the other ranks are not in.
                self._engine._flush_coalesced_reduction_zero12 = lambda optimizer: None
                self._engine._flush_coalesced_reduction_zero3 = lambda optimizer: None
                raise

    def backward(self, total: Tensor) -> None:
        # DeepSpeed averages gradients over ranks; ours are to be summed, so each is multiplied by the world.
        self._engine.backward(total * self.peers.world, scale_wrt_gas=False)

    def step(self, lr: float) -> StepInfo:
        self._optimizer.set_lr(lr)
        self._engine.step()
        norm = float(self._zero._global_grad_norm)
        skipped = not math.isfinite(norm)
        self.optimizer_steps += not skipped
        return StepInfo(math.inf if skipped else norm, skipped)

    def fragments(self) -> Iterator[Fragment]:
        for name, parameter in self.towers.named_parameters():
            start, tensors = self._fragment(name, parameter)
            held = tensors if any(part.numel() for part in tensors.values()) else {}
            yield Fragment(name, self._shapes[name], start, held)

    @contextmanager
    @torch.no_grad()
    def lent(self, whole: Callable[[str], Tensor]) -> Iterator[None]:
        # Masters are apart from what forwards read, so they bring it back. After an error the run ends: no rank may
        # enter a collective that the others do not.
        trained = [(name, p) for name, p in self.towers.named_parameters() if name in self.moments]
        for name, parameter in trained:
            self._set_live(parameter, whole(name))
        yield
        for name, parameter in trained:
            self._set_live(parameter, self._whole(name, parameter)["param"])

    def full_state(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, parameter in self.towers.named_parameters():
            yield name, self._whole(name, parameter)
        yield from buffers_of(self.towers, self.peers)

    @torch.no_grad()
    def load_full_state(self, get: Callable[[str], dict[str, Tensor]], step: int) -> None:
        for name, parameter in self.towers.named_parameters():
            tensors = checked(name, get(name), self._shapes[name], self.moments.get(name, ()))
            fragment = self._fragment(name, parameter)
            for key, part in fragment.tensors.items():
                part.copy_(tensors[key].flatten()[fragment.start : fragment.start + part.numel()])
            self._set_live(parameter, tensors["param"])
        load_buffers(self.towers, get)
        self._optimizer.set_steps(step)
        self.optimizer_steps = step

    def _norm_is_finite(self) -> bool:
        # DeepSpeed skips such a step by itself in some releases and precisions only; asking here covers them all.
        return math.isfinite(float(self._zero._global_grad_norm))

    def _masters(self) -> list[Tensor]:
        zero = self._zero
        return list(zero.fp32_partitioned_groups_flat if self._partitioned else zero.single_partition_of_fp32_groups)

    def _layout(self, master: Tensor) -> list[Span]:
        """Where the parameters of a master's group lie in it; the same parameters in the same order on every rank."""
        number = next(at for at, other in enumerate(self._masters()) if other is master)
        group = self._zero.fp16_groups[number] if self._partitioned else self._zero.bit16_groups[number]
        return [self._span(self._names[id(parameter)], parameter) for parameter in group]

    def _span(self, name: str, parameter: Any) -> Span:
        """This rank's part of a trained parameter, in the master of its group."""
        if self._partitioned:
            size = parameter.ds_tensor.numel()
            start = size * self.peers.rank
            held = max(0, min(size, parameter.ds_numel - start))  # the last ranks' parts end in padding
            _, offset, _ = self._zero.grad_position[self._zero.get_param_id(parameter)]
            return Span(name, self._shapes[name], start, offset, held)
        mapping = parameter._hp_mapping
        if mapping is None:
            return Span(name, self._shapes[name], 0, 0, 0)
        ours = mapping.get_hp_fragment_address()
        return Span(name, self._shapes[name], mapping.lp_fragment_address.start, ours.start, ours.numel)

    def _fragment(self, name: str, parameter: Any) -> "_Fragment":
        """This rank's part of a parameter's master and moments, as views that may be written to."""
        if name in self.moments:
            span = self._span(name, parameter)
            if not span.size:
                return _Fragment(span.start, {})
            master = self._masters()[self._group(parameter)]
            flats = {
                "param": master.data,
                **{key: self._optimizer.state[master][key] for key in self.moments.get(name, ())},
            }
            return _Fragment(span.start, {key: span.of(flat) for key, flat in flats.items()})
        if self._partitioned:
            size = parameter.ds_tensor.numel()
            start = size * self.peers.rank
            held = max(0, min(size, parameter.ds_numel - start))
            return _Fragment(start, {"param": parameter.ds_tensor.data[:held]})
        return _Fragment(0, {"param": parameter.data.flatten()} if self.peers.rank == 0 else {})

    def _group(self, parameter: Any) -> int:
        if self._partitioned:
            return self._zero.grad_position[self._zero.get_param_id(parameter)][0]
        return parameter._hp_mapping.param_group_index

    def _whole(self, name: str, parameter: Any) -> dict[str, Tensor]:
        shape = self._shapes[name]
        keys = ("param", *self.moments.get(name, ()))
        fragment = self._fragment(name, parameter)
        table = torch.zeros((len(keys), math.prod(shape)), dtype=torch.float32, device=self.device)
        for row, key in zip(table, keys, strict=True):
            if key in fragment.tensors:
                part = fragment.tensors[key]
                row[fragment.start : fragment.start + part.numel()] = part
        # Each element is held by one rank: summing the bits as integers keeps them all, the sign of a zero included.
        whole = self.peers.all_sum(table.view(torch.int32)).view(torch.float32).cpu()
        return {key: row.reshape(shape) for key, row in zip(keys, whole, strict=True)}

    def _set_live(self, parameter: Any, value: Tensor) -> None:
        if not self._partitioned:
            parameter.data.copy_(value)
            return
        shard = parameter.ds_tensor.data
        start = shard.numel() * self.peers.rank
        ours = value.flatten()[start : start + shard.numel()]
        shard[: ours.numel()].copy_(ours)
        if parameter.data.numel() == value.numel():  # kept whole between forwards
            parameter.data.copy_(value.view_as(parameter.data))


class _Fragment(NamedTuple):
    start: int  # offset in the flattened parameter
    tensors: dict[str, Tensor]  # param and moments; empty where another rank holds them


def _config(settings: EngineSettings, elements: int) -> dict[str, Any]:
    bucket = min(elements + elements % 2, 500_000_000)  # DeepSpeed allocates whole (and even) buckets
    zero: dict[str, Any] = {
        "stage": settings.zero_stage,
        "reduce_bucket_size": bucket,
        "overlap_comm": False,
        "contiguous_gradients": True,
    }
    if settings.zero_stage == 3:
        zero["stage3_param_persistence_threshold"] = 100_000
    else:
        zero["allgather_bucket_size"] = bucket
    return {
        "train_micro_batch_size_per_gpu": 1,  # only the product with accumulation is checked; batches are ours
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.grad_clip or 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
    }


def _deepspeed(device: torch.device) -> Any:
    """The package, told which accelerator to use (it decides on import), or RecipeError with what to install."""
    where, plain = "train.engine.zero_stage", "or set train.engine.zero_stage=0"
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("LOCAL_RANK", str(device.index or 0))  # DeepSpeed insists on it
    try:
        import deepspeed
    except ImportError as error:
        hint = f"pip install 'clipmill[train]', {plain}"
        raise RecipeError(where, f"deepspeed cannot be imported ({error})", "stages 1 to 3 need it", hint) from error
    found = tuple(int(part) for part in deepspeed.__version__.split("+")[0].split(".")[:3])
    if found < OLDEST:
        found_text, expected = f"deepspeed {deepspeed.__version__}", "0.19.2 or newer, which reduces once a step"
        raise RecipeError(where, found_text, expected, f"pip install 'deepspeed>=0.19.2,<{words(BELOW)}', {plain}")
    if found >= BELOW:
        log.info("deepspeed %s is newer than what clipmill was tested with (below %s)", found, words(BELOW))
    require([f"ops.{name}" for name in OF_PACKAGE if not hasattr(deepspeed.ops, name)], deepspeed.__version__)
    if device.type == "cpu":
        # It would compile a shared-memory collective for a minute at the first start, named after the master's port,
        # so that two runs with one port on one machine write over each other. Gloo does the same work.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.utils.logger.setLevel("ERROR")
    return deepspeed
