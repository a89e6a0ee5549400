"""Global and shared memory that know who touched what, and refuse what a GPU would not notice.

A fault is an access outside its buffer, one not aligned to its size, and a race: one warp reads or
overwrites what another wrote (or overwrites what it read) with no barrier between them. A barrier
orders the warps of a block; within a launch nothing orders two blocks. Writing what is there already
is no fault: copies of a value may be stored twice.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

Change = Callable[[np.ndarray], np.ndarray]  # bytes before to bytes after
MANY = 63  # the warp, or block, of bytes that several have read


class Fault(Exception):
    """What is wrong with an access, and of which instruction."""


@dataclass(frozen=True)
class Who:
    """Of each access: its block in the grid, its warp in the block, the barriers that warp passed."""

    block: np.ndarray
    warp: np.ndarray
    epoch: np.ndarray

    def __getitem__(self, some) -> "Who":
        return Who(self.block[some], self.warp[some], self.epoch[some])


@dataclass
class Trace:
    """Who wrote and who read each unit last. 0 in `block`: nobody; below 0: several blocks."""

    units: int
    block: np.ndarray = field(init=False)
    warp: np.ndarray = field(init=False)
    epoch: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        # Zero pages cost nothing until they are touched.
        self.block = np.zeros(self.units, np.int32)
        self.warp = np.zeros(self.units, np.int8)
        self.epoch = np.zeros(self.units, np.int32)

    def others(self, units: np.ndarray, who: Who) -> np.ndarray:
        """Where somebody else did, and no barrier came between."""
        block = self.block[units]
        same = block == who.block[:, None] + 1
        later = same & (self.epoch[units] == who.epoch[:, None])
        return ((block != 0) & ~same) | (later & (self.warp[units] != who.warp[:, None]))

    def note(self, units: np.ndarray, who: Who) -> None:
        shape = units.shape
        self.block[units] = np.broadcast_to(who.block[:, None] + 1, shape)
        self.warp[units] = np.broadcast_to(who.warp[:, None], shape)
        self.epoch[units] = np.broadcast_to(who.epoch[:, None], shape)

    def note_too(self, units: np.ndarray, who: Who) -> None:
        """As `note`, but several stay several: within this call and since the last barrier."""
        shape = units.shape
        block = np.broadcast_to(who.block[:, None] + 1, shape)
        warp = np.broadcast_to(who.warp[:, None], shape)
        others = self.others(units, who)
        blocks = others & (self.block[units] != block)
        shared = others & ~blocks
        self.note(units, who)
        blocks |= self.block[units] != block
        shared |= ~blocks & (self.warp[units] != warp)
        self.warp[units[shared]] = MANY
        self.block[units[blocks]] = -1


class Buffer:
    """Bytes at `address`, checked in units of `unit` bytes."""

    def __init__(self, name: str, address: int, raw: np.ndarray, unit: int) -> None:
        self.name = name
        self.address = address
        self.raw = raw
        self.unit = unit
        units = raw.size // unit + 1
        self.written, self.read = Trace(units), Trace(units)
        self.atomic = np.zeros(units, bool)

    def units(self, offset: np.ndarray, size: int) -> np.ndarray:
        return offset[:, None] // self.unit + np.arange(max(1, size // self.unit))

    def check(self, address: np.ndarray, size: int, text: str) -> np.ndarray:
        offset = address.astype(np.int64) - self.address
        outside = (offset < 0) | (offset + size > self.raw.size)
        if outside.any():
            raise Fault(
                f"{text}: {size} bytes at {offset[outside][0]:+d} of {self.name}, "
                f"which has {self.raw.size}"
            )
        if (address.astype(np.int64) % size).any():
            raise Fault(f"{text}: {size} bytes of {self.name} not aligned to {size}")
        return offset

    def load(self, address: np.ndarray, size: int, who: Who, text: str) -> np.ndarray:
        """(n, size) bytes."""
        offset = self.check(address, size, text)
        units = self.units(offset, size)
        if self.written.others(units, who).any():
            raise Fault(f"{text}: race, reads what another warp has just written to {self.name}")
        self.read.note_too(units, who)
        return self.raw[offset[:, None] + np.arange(size)]

    def store(self, address: np.ndarray, data: np.ndarray, who: Who, text: str) -> None:
        """data: (n, size) bytes."""
        offset = self.check(address, data.shape[1], text)
        units = self.units(offset, data.shape[1])
        places = offset[:, None] + np.arange(data.shape[1])
        changes = (self.raw[places] != data).any(1)[:, None]
        if (self.written.others(units, who) & changes).any():
            raise Fault(f"{text}: race, overwrites what another warp wrote to {self.name}")
        if (self.read.others(units, who) & changes).any():
            raise Fault(f"{text}: race, overwrites what another warp has read of {self.name}")
        self.raw[places] = data
        self.written.note(units, who)
        # Copies of one sum may differ in their last bit where a multiplication was fused into it;
        # within a warp one of them stays.
        lost = (self.raw[places] != data).any(1)
        if self.written.others(units[lost], who[lost]).any():
            raise Fault(f"{text}: race, two warps write different values to {self.name}")
        self.atomic[units] = False

    def update(
        self, address: np.ndarray, change: Change, size: int, who: Who, text: str
    ) -> np.ndarray:
        """One atomic access: the bytes before. Atomics race with other accesses, not with atomics."""
        offset = self.check(address, size, text)
        units = self.units(offset, size)
        written = self.written.others(units, who) & ~self.atomic[units]
        if written.any() or self.read.others(units, who).any():
            raise Fault(f"{text}: race with another warp's access to {self.name}, not atomic")
        places = offset[:, None] + np.arange(size)
        old = self.raw[places]
        self.raw[places] = change(old)
        self.written.note(units, who)
        self.atomic[units] = True
        return old


class Global:
    """The tensors of one launch, each a terabyte from the next, so that no error meets another."""

    SPACING = 1 << 40

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.addresses: dict[int, int] = {}

    def add(self, name: str, tensor: Tensor) -> int:
        """The device address of `tensor`, aligned as the tensor is; one for tensors that begin alike."""
        start = tensor.data_ptr()
        if start not in self.addresses:
            reach = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
            size = (reach + 1) * tensor.element_size() if tensor.numel() else 0
            raw = np.frombuffer((ctypes.c_uint8 * size).from_address(start), np.uint8)
            address = (len(self.buffers) + 1) * self.SPACING + start % 4096
            self.buffers.append(Buffer(name, address, raw, tensor.element_size()))
            self.addresses[start] = address
        return self.addresses[start]

    def parts(self, address: np.ndarray, text: str):
        """Each buffer that is meant, and by which accesses."""
        index = (address // np.uint64(self.SPACING)).astype(np.int64) - 1
        for i in np.unique(index):
            if not 0 <= i < len(self.buffers):
                raise Fault(f"{text}: address {int(address[index == i][0]):#x} is of no buffer")
            yield self.buffers[i], index == i

    def load(self, address: np.ndarray, size: int, who: Who, text: str) -> np.ndarray:
        data = np.empty((len(address), size), np.uint8)
        for buffer, here in self.parts(address, text):
            data[here] = buffer.load(address[here], size, who[here], text)
        return data

    def store(self, address: np.ndarray, data: np.ndarray, who: Who, text: str) -> None:
        for buffer, here in self.parts(address, text):
            buffer.store(address[here], data[here], who[here], text)

    def update(
        self, address: np.ndarray, change: Change, size: int, who: Who, text: str
    ) -> np.ndarray:
        ((buffer, _),) = self.parts(address, text)
        return buffer.update(address, change, size, who, text)


class Shared:
    """`size` bytes for each of some blocks; addresses are within a block."""

    def __init__(self, size: int, first_block: int, blocks: int) -> None:
        self.size = size
        self.stride = -(-size // 16) * 16
        self.first_block = first_block
        raw = np.full(self.stride * blocks, 0xAB, np.uint8)
        self.buffer = Buffer("shared memory", 0, raw, 1)
        self.arriving = np.zeros(raw.size, bool)  # by cp.async

    def place(self, address: np.ndarray, size: int, who: Who, text: str) -> np.ndarray:
        address = address.astype(np.int64)
        outside = (address < 0) | (address + size > self.size)
        if outside.any():
            raise Fault(
                f"{text}: {size} bytes at {address[outside][0]:+d} of shared memory, "
                f"which has {self.size}"
            )
        return address + (who.block - self.first_block) * self.stride

    def load(self, address: np.ndarray, size: int, who: Who, text: str) -> np.ndarray:
        place = self.place(address, size, who, text)
        if self.arriving[place[:, None] + np.arange(size)].any():
            raise Fault(f"{text}: race, reads shared memory before cp.async was waited for")
        return self.buffer.load(place, size, who, text)

    def store(self, address: np.ndarray, data: np.ndarray, who: Who, text: str) -> None:
        self.buffer.store(self.place(address, data.shape[1], who, text), data, who, text)

    def update(
        self, address: np.ndarray, change: Change, size: int, who: Who, text: str
    ) -> np.ndarray:
        return self.buffer.update(self.place(address, size, who, text), change, size, who, text)

    def announce(self, address: np.ndarray, size: int, who: Who, text: str, *, comes: bool) -> None:
        place = self.place(address, size, who, text)
        self.arriving[place[:, None] + np.arange(size)] = comes
