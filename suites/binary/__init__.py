"""What is launched: the kernels' binaries, read and counted without a GPU, and the times they suggest."""
