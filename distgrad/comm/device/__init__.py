"""How buffers on GPUs go between ranks: NCCL, MPI on device addresses, or a ring of pinned host memory."""
