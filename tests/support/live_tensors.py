"""The most bytes of tensors that were alive at one instant, counted as torch makes them."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class LiveTensors(TorchDispatchMode):
    """Counts storages that operations return while it is active; `peak` is in bytes."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._counted_storages = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self._counted_storages:
                storage = tensor.untyped_storage()
                self._counted_storages.add(storage)
                size = storage.nbytes()
                self.live += size
                weakref.finalize(storage, self._free, size)
                self.peak = max(self.peak, self.live)
        return result

    def _free(self, size):
        self.live -= size
